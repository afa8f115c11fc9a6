#include "decode.hpp"

#include <algorithm>
#include <utility>

#include "error.hpp"
#include "files.hpp"

namespace dpt::core {
namespace {

constexpr std::uint64_t kMaxFileBytes = std::uint64_t{1} << 30;
constexpr std::uint64_t kMaxPixelBytes = std::uint64_t{512} << 20;  // the limit of the Python package
constexpr unsigned kOrientation = 0x0112;                           // tag of TIFF and EXIF

#if defined(DPT_WITH_JPEG) && defined(DPT_WITH_PNG)
constexpr const char* kFormats = "expected a JPEG, a PNG, or a binary PPM (P6) or PGM (P5) of 8 bits";
#elif defined(DPT_WITH_JPEG)
constexpr const char* kFormats = "expected a JPEG, or a binary PPM (P6) or PGM (P5) of 8 bits; PNG needs a build with libpng";
#elif defined(DPT_WITH_PNG)
constexpr const char* kFormats = "expected a PNG, or a binary PPM (P6) or PGM (P5) of 8 bits; JPEG needs a build with libjpeg";
#else
constexpr const char* kFormats =
    "expected a binary PPM (P6) or PGM (P5) of 8 bits; JPEG and PNG need a build with libjpeg and libpng";
#endif

bool begins(const std::string& bytes, const char* magic, std::size_t size) { return bytes.compare(0, size, magic, size) == 0; }

// An integer of `count` bytes at `at`; the caller has checked the bounds.
unsigned number(const unsigned char* at, int count, bool little) {
  unsigned value = 0;
  for (int i = 0; i < count; ++i) value |= static_cast<unsigned>(at[i]) << 8 * (little ? i : count - 1 - i);
  return value;
}

#if defined(DPT_WITH_JPEG) || defined(DPT_WITH_PNG)
Picture decoded(Picture (*decode)(const std::string&, const std::string&, int&), const std::string& bytes,
                const std::string& where) {
  int orientation = 1;
  Picture picture = decode(bytes, where, orientation);
  return upright(std::move(picture), orientation);
}
#endif

}  // namespace

Picture decode_image(const std::string& bytes, const std::string& where) {
#ifdef DPT_WITH_JPEG
  if (begins(bytes, "\xff\xd8\xff", 3)) return decoded(decode_jpeg, bytes, where);
#endif
#ifdef DPT_WITH_PNG
  if (begins(bytes, "\x89PNG\r\n\x1a\n", 8)) return decoded(decode_png, bytes, where);
#endif
  if (begins(bytes, "P6", 2) || begins(bytes, "P5", 2)) return parse_pnm(bytes, where);
  throw Failure(DPT_BAD_FILE, where + " is no image that can be read", kFormats);
}

Picture read_image(const std::string& path) { return decode_image(read_file(path, kMaxFileBytes), path); }

void check_pixels(std::uint64_t width, std::uint64_t height, const std::string& where) {
  if (width < 1 || height < 1 || width > kMaxSide || height > kMaxSide || 3 * width * height > kMaxPixelBytes) {
    throw Failure(DPT_BAD_FILE, where + " has " + std::to_string(height) + "x" + std::to_string(width) + " pixels",
                  "expected at most " + std::to_string(kMaxPixelBytes >> 20) + " MiB of RGB: make it smaller");
  }
}

int orientation_of(const unsigned char* block, std::size_t size) {
  if (size < 8 || block[0] != block[1] || (block[0] != 'I' && block[0] != 'M')) return 1;
  const bool little = block[0] == 'I';
  const std::size_t at = number(block + 4, 4, little);
  if (at > size - 2) return 1;
  const unsigned entries = number(block + at, 2, little);
  for (std::size_t entry = at + 2; entry + 12 <= size && entry < at + 2 + 12 * std::size_t{entries}; entry += 12) {
    if (number(block + entry, 2, little) == kOrientation) {
      const unsigned value = number(block + entry + 8, 2, little);
      return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
    }
  }
  return 1;
}

// Values 2, 4, 5, 7 are mirrored; 5 to 8 swap the sides (EXIF 2.32, table 4).
Picture upright(Picture picture, int orientation) {
  if (orientation == 1) return picture;
  const bool swap = orientation >= 5;
  const bool flip_rows = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
  const bool flip_columns = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
  const Size from = picture.size;
  Picture turned;
  turned.size = swap ? Size{from.width, from.height} : from;
  turned.rgb.resize(picture.rgb.size());
  auto* out = turned.rgb.data();
  for (int y = 0; y < turned.size.height; ++y) {
    const int v = flip_rows ? turned.size.height - 1 - y : y;
    for (int x = 0; x < turned.size.width; ++x) {
      const int u = flip_columns ? turned.size.width - 1 - x : x;
      const auto row = static_cast<std::size_t>(swap ? u : v), column = static_cast<std::size_t>(swap ? v : u);
      out = std::copy_n(picture.rgb.data() + 3 * (row * static_cast<std::size_t>(from.width) + column), 3, out);
    }
  }
  return turned;
}

}  // namespace dpt::core
