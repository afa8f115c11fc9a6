#include "formats.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "ade20k.hpp"
#include "error.hpp"
#include "files.hpp"

namespace dpt::core {
namespace {

constexpr int kAde20kClasses = 150;
constexpr std::size_t kMaxStored = 65535;  // of one stored block of deflate
constexpr std::size_t kMaxChunk = 1 << 18;  // of a PNG; its length has 31 bits, and the largest map is longer

Failure bad_image(const std::string& where, const std::string& what) {
  return {DPT_BAD_FILE, where + " is no image that can be read: " + what,
          "expected a binary PPM (P6) or PGM (P5) of 8 bits"};
}

// A number of the header: white space, comments that run to the end of a line, digits.
int header_number(const std::string& bytes, std::size_t& at, const std::string& where) {
  const auto byte = [&]() { return at < bytes.size() ? static_cast<unsigned char>(bytes[at]) : 0; };
  while (std::isspace(byte()) || byte() == '#') {
    if (byte() == '#') {
      while (at < bytes.size() && byte() != '\n') ++at;
    } else {
      ++at;
    }
  }
  if (!std::isdigit(byte())) throw bad_image(where, "its header is damaged");
  int number = 0;
  for (; std::isdigit(byte()); ++at) number = std::min(10 * number + (byte() - '0'), 1 << 24);
  return number;
}

std::uint32_t crc_of(const char* data, std::size_t size) {
  static const auto table = [] {
    std::array<std::uint32_t, 256> made{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t value = i;
      for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ ((value & 1) != 0 ? 0xedb88320u : 0);
      made[i] = value;
    }
    return made;
  }();
  std::uint32_t crc = ~0u;
  for (std::size_t i = 0; i < size; ++i) crc = crc >> 8 ^ table[(crc ^ static_cast<unsigned char>(data[i])) & 0xff];
  return ~crc;
}

std::uint32_t adler_of(const std::string& bytes) {
  std::uint32_t a = 1, b = 0;
  for (std::size_t at = 0; at < bytes.size();) {
    for (const std::size_t end = std::min(bytes.size(), at + 5552); at < end; ++at) {  // no overflow before the modulus
      a += static_cast<unsigned char>(bytes[at]);
      b += a;
    }
    a %= 65521, b %= 65521;
  }
  return b << 16 | a;
}

void put32(std::string& out, std::uint32_t value) {
  for (int shift = 24; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift);
}

void put_chunk(std::string& out, const char* type, std::string_view body) {
  put32(out, static_cast<std::uint32_t>(body.size()));
  const std::size_t begin = out.size();
  out += type;
  out += body;
  put32(out, crc_of(out.data() + begin, out.size() - begin));
}

// zlib's frame around stored blocks: uncompressed, like the original's files.
std::string stored(const std::string& bytes) {
  std::string out = "\x78\x01";
  for (std::size_t at = 0; at < bytes.size(); at += kMaxStored) {
    const std::size_t size = std::min(kMaxStored, bytes.size() - at);
    out += at + size == bytes.size() ? '\1' : '\0';
    for (const std::size_t value : {size, ~size}) {
      out += static_cast<char>(value & 0xff);
      out += static_cast<char>(value >> 8 & 0xff);
    }
    out.append(bytes, at, size);
  }
  put32(out, adler_of(bytes));
  return out;
}

std::string png_of(Size size, char depth, char colour_type, const std::string& colours, const std::string& scanlines) {
  std::string header;
  put32(header, static_cast<std::uint32_t>(size.width));
  put32(header, static_cast<std::uint32_t>(size.height));
  header += {depth, colour_type, '\0', '\0', '\0'};
  std::string out = "\x89PNG\r\n\x1a\n";
  put_chunk(out, "IHDR", header);
  if (!colours.empty()) put_chunk(out, "PLTE", colours);
  const std::string data = stored(scanlines);
  for (std::size_t at = 0; at < data.size(); at += kMaxChunk) {
    put_chunk(out, "IDAT", std::string_view(data).substr(at, kMaxChunk));
  }
  put_chunk(out, "IEND", "");
  return out;
}

// Bits 0, 1, 2 of a label go to the top bit of red, green, blue; the next three to the bit below; and so on.
std::vector<std::uint8_t> pascal_voc(int entries) {
  std::vector<std::uint8_t> colours(static_cast<std::size_t>(entries) * 3);
  for (std::size_t i = 0; i < colours.size(); ++i) {
    const std::size_t label = i / 3, channel = i % 3;
    for (std::size_t digit = 0; digit < 8; ++digit) {
      colours[i] |= static_cast<std::uint8_t>((label >> (3 * digit + channel) & 1) << (7 - digit));
    }
  }
  return colours;
}

}  // namespace

Picture parse_pnm(const std::string& bytes, const std::string& where) {
  if (bytes.size() < 2 || bytes[0] != 'P' || (bytes[1] != '6' && bytes[1] != '5')) {
    throw bad_image(where, "it does not begin with P6 or P5");
  }
  const std::size_t channels = bytes[1] == '6' ? 3 : 1;
  std::size_t at = 2;
  Picture picture;
  picture.size.width = header_number(bytes, at, where);
  picture.size.height = header_number(bytes, at, where);
  const int largest = header_number(bytes, at, where);
  if (at >= bytes.size() || !std::isspace(static_cast<unsigned char>(bytes[at]))) {
    throw bad_image(where, "its header is damaged");
  }
  ++at;
  const auto [height, width] = picture.size;
  if (height < 1 || width < 1 || height > kMaxSide || width > kMaxSide || largest != 255) {
    throw bad_image(where, text_of(picture.size) + " pixels of values up to " + std::to_string(largest));
  }
  const std::size_t pixels = static_cast<std::size_t>(height) * static_cast<std::size_t>(width);
  if (bytes.size() - at < pixels * channels) {  // what follows, such as a second picture, is ignored, as in Python
    throw bad_image(where, "it holds " + std::to_string(bytes.size() - at) + " bytes of pixels; " +
                               text_of(picture.size) + " needs " + std::to_string(pixels * channels));
  }
  picture.rgb.resize(pixels * 3);
  const auto* values = reinterpret_cast<const std::uint8_t*>(bytes.data()) + at;
  for (std::size_t i = 0; i < picture.rgb.size(); ++i) picture.rgb[i] = values[channels == 3 ? i : i / 3];
  return picture;
}

std::string pfm_of(const float* values, Size size) {
  std::string out = "Pf\n" + std::to_string(size.width) + " " + std::to_string(size.height) + "\n-1.000000\n";
  const auto width = static_cast<std::size_t>(size.width);
  for (auto y = static_cast<std::size_t>(size.height); y-- > 0;) {
    out.append(reinterpret_cast<const char*>(values + y * width), width * sizeof *values);
  }
  return out;
}

std::string png16_of(const std::uint16_t* values, Size size) {
  std::string lines;
  lines.reserve(static_cast<std::size_t>(size.height) * (2 * static_cast<std::size_t>(size.width) + 1));
  for (int y = 0; y < size.height; ++y) {
    lines += '\0';  // no filter
    for (int x = 0; x < size.width; ++x, ++values) {
      lines += static_cast<char>(*values >> 8);
      lines += static_cast<char>(*values);
    }
  }
  return png_of(size, 16, 0, "", lines);
}

std::string palette_png_of(const std::uint16_t* labels, Size size, int num_classes) {
  const std::size_t count = static_cast<std::size_t>(size.height) * static_cast<std::size_t>(size.width);
  const int largest = *std::max_element(labels, labels + count);
  if (num_classes < 1 || num_classes > 255 || largest > num_classes) {
    throw Failure(DPT_USAGE, "labels up to " + std::to_string(largest) + " of " + std::to_string(num_classes) +
                                 " classes do not fit a palette image",
                  "expected 0 (background) to the number of classes, at most 255");
  }
  std::string lines;
  for (int y = 0; y < size.height; ++y) {
    lines += '\0';
    for (int x = 0; x < size.width; ++x) lines += static_cast<char>(*labels++);
  }
  const std::vector<std::uint8_t> colours = palette(num_classes);
  return png_of(size, 8, 3, {colours.begin(), colours.end()}, lines);
}

std::vector<std::uint8_t> palette(int num_classes) {
  if (num_classes == kAde20kClasses) return {std::begin(kAde20k), std::end(kAde20k)};
  return pascal_voc(num_classes + 1);
}

}  // namespace dpt::core
