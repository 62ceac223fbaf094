// The header in strict C++17: it needs nothing before it, and its macros and fields are valid C++.
#include "yololoss.h"
#include "yololoss_dlpack.h"
#include "yololoss_binding.h"

int main() {
  const yl_config config = YL_CONFIG_INIT;
  yl_parts parts{};
  parts.class_ = 1;
  return config.struct_size == sizeof(yl_config) && yl_abi_version() == YL_ABI_VERSION && parts.class_ == 1 ? 0 : 1;
}
