#include "processor.hpp"

#ifdef __x86_64__
#include <cpuid.h>
#endif

namespace dpt::core {

bool sums_8_bits_in_16() {
#ifdef __x86_64__
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool leaf = __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0;
  const bool avx512_vnni = leaf && (c >> 11 & 1) != 0, amx_int8 = leaf && (d >> 25 & 1) != 0;
  const bool avx_vnni = __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a >> 4 & 1) != 0;
  return !avx512_vnni && !amx_int8 && !avx_vnni;
#else
  return false;
#endif
}

}  // namespace dpt::core
