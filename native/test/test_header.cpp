// The headers in strict C++17, where they need nothing before them and their macros and fields are valid, and in strict
// C99.
#include "yololoss.h"
#include "yololoss_binding.h"
#include "yololoss_dlpack.h"
// After the headers under test.
#include "test.h"

extern "C" const char *call_from_c(void);

TEST(header, is_strict_cpp17) {
  const yl_config config = YL_CONFIG_INIT;
  yl_parts parts{};
  parts.class_ = 1;
  CHECK_EQUAL(config.struct_size, sizeof(yl_config));
  CHECK_EQUAL(yl_abi_version(), YL_ABI_VERSION);
  CHECK_EQUAL(parts.class_, 1);
}

TEST(header, is_strict_c99_and_serves_a_program_in_c) {
  const char *const wrong = call_from_c();
  CHECK(!wrong, wrong ? wrong : "");
}
