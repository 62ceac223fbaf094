// Stage 2 of the cpu device for YL_F64.
#include "cpu/cells_scalar.h"

yl::CellsFunction yl::double_cells(const Shape &shape, bool extras) {
  CellsFunction result = nullptr;
  with_format_of<double>(shape, [&](auto format) {
    using F = decltype(format);
    const auto function = [](auto with_extras) -> CellsFunction {
      return [](const CellsCall &c, int32_t image, const Span &span, Scratch &scratch, yl_parts &sum, Extra &extra) {
        ScalarCells<F, decltype(with_extras)::value>(c, image, span, scratch).compute(sum, extra);
      };
    };
    result = extras ? function(std::true_type{}) : function(std::false_type{});
  });
  return result;
}
