// Any bytes as a sidecar: read, or refused with a reason.
#include "error.hpp"
#include "sidecar.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    dpt::core::parse_sidecar({reinterpret_cast<const char*>(data), size}, "fuzz");
  } catch (const dpt::core::Failure&) {
  }
  return 0;
}
