// libpng reports errors by a call that must not return. It leaves by longjmp, so nothing between setjmp and the library
// has a destructor, and exceptions are thrown on this side only.
#include <png.h>

#include <csetjmp>
#include <cstring>

#include "decode.hpp"
#include "error.hpp"

namespace dpt::core {
namespace {

constexpr png_alloc_size_t kMaxChunk = 1 << 26;  // bytes of one chunk of metadata

struct Decoder {
  const std::string* bytes;
  std::size_t at;
  png_structp png;
  png_infop info;
  std::jmp_buf leave;
  char message[128];
  std::uint8_t* pixels;
};

void fail(png_structp png, png_const_charp message) {
  auto* decoder = static_cast<Decoder*>(png_get_error_ptr(png));
  std::strncpy(decoder->message, message, sizeof decoder->message - 1);
  std::longjmp(decoder->leave, 1);
}

void warn(png_structp, png_const_charp) {}  // about metadata

void take(png_structp png, png_bytep target, std::size_t count) {
  auto* decoder = static_cast<Decoder*>(png_get_io_ptr(png));
  if (count > decoder->bytes->size() - decoder->at) png_error(png, "it ends too early");
  std::memcpy(target, decoder->bytes->data() + decoder->at, count);
  decoder->at += count;
}

bool read_header(Decoder& decoder) {
  if (setjmp(decoder.leave)) return false;
  png_set_read_fn(decoder.png, &decoder, take);
  png_set_user_limits(decoder.png, 0x7fffffff, 0x7fffffff);  // ours follow, with a message of their own
  png_set_chunk_malloc_max(decoder.png, kMaxChunk);
  png_read_info(decoder.png, decoder.info);
  return true;
}

bool read_pixels(Decoder& decoder, std::size_t row_bytes) {
  if (setjmp(decoder.leave)) return false;
  png_set_strip_16(decoder.png);
  png_set_expand(decoder.png);
  png_set_strip_alpha(decoder.png);
  png_set_gray_to_rgb(decoder.png);
  const int passes = png_set_interlace_handling(decoder.png);
  png_read_update_info(decoder.png, decoder.info);
  if (png_get_rowbytes(decoder.png, decoder.info) != row_bytes) png_error(decoder.png, "its rows are no RGB");
  const png_uint_32 height = png_get_image_height(decoder.png, decoder.info);
  for (int pass = 0; pass < passes; ++pass) {
    for (png_uint_32 y = 0; y < height; ++y) png_read_row(decoder.png, decoder.pixels + row_bytes * y, nullptr);
  }
  png_read_end(decoder.png, decoder.info);
  return true;
}

struct Closed {
  Decoder* decoder;
  ~Closed() { png_destroy_read_struct(&decoder->png, &decoder->info, nullptr); }
};

}  // namespace

Picture decode_png(const std::string& bytes, const std::string& where, int& orientation) {
  Decoder decoder{};
  decoder.bytes = &bytes;
  decoder.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &decoder, fail, warn);
  const Closed closed{&decoder};
  if (decoder.png != nullptr) decoder.info = png_create_info_struct(decoder.png);
  if (decoder.info == nullptr) throw Failure(DPT_RESOURCE, "out of memory while reading " + where, "free some memory");
  const auto damaged = [&] {
    return Failure(DPT_BAD_FILE, where + " cannot be decoded: " + decoder.message,
                   "the file is damaged or incomplete: copy or download it again");
  };
  if (!read_header(decoder)) throw damaged();
  const png_uint_32 height = png_get_image_height(decoder.png, decoder.info);
  const png_uint_32 width = png_get_image_width(decoder.png, decoder.info);
  check_pixels(width, height, where);
  Picture picture;
  picture.size = {static_cast<int>(height), static_cast<int>(width)};
  picture.rgb.resize(std::size_t{3} * height * width);
  decoder.pixels = picture.rgb.data();
  if (!read_pixels(decoder, std::size_t{3} * width)) throw damaged();
#ifdef PNG_eXIf_SUPPORTED
  png_uint_32 size = 0;
  png_bytep block = nullptr;
  if (png_get_eXIf_1(decoder.png, decoder.info, &size, &block) != 0) orientation = orientation_of(block, size);
#endif
  return picture;
}

}  // namespace dpt::core
