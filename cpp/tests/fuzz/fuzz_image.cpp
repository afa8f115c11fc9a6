// Any bytes as a PPM or PGM: read, or refused with a reason; what was read can be resized.
#include "error.hpp"
#include "decode.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto picture = dpt::core::decode_image({reinterpret_cast<const char*>(data), size}, "fuzz");
    dpt::core::InputScratch scratch;
    float out[3 * 4 * 5];
    dpt::core::preprocess({picture.rgb.data(), picture.size, 3 * picture.size.width, 3, {0, 1, 2}}, {4, 5}, {}, scratch, out);
  } catch (const dpt::core::Failure&) {
  }
  return 0;
}
