// libjpeg reports errors by a call that must not return. It leaves by longjmp, so nothing between setjmp and the library
// has a destructor, and exceptions are thrown on this side only.
#include <cstddef>
#include <cstdio>

#include <jpeglib.h>

#include <jerror.h>

#include <csetjmp>
#include <cstring>

#include "decode.hpp"
#include "error.hpp"

namespace dpt::core {
namespace {

constexpr char kExif[] = "Exif\0";  // and the zero that ends the literal
constexpr std::size_t kExifBytes = 6;

struct Errors {
  jpeg_error_mgr base;
  std::jmp_buf leave;
  char message[JMSG_LENGTH_MAX];
};

Errors* errors_of(j_common_ptr info) { return reinterpret_cast<Errors*>(info->err); }

[[noreturn]] void fail(j_common_ptr info) {
  Errors* errors = errors_of(info);
  errors->base.format_message(info, errors->message);
  std::longjmp(errors->leave, 1);
}

// A warning that pixels were made up is an error; others, such as stray bytes between markers, are not.
void warn(j_common_ptr info, int level) {
  const int code = info->err->msg_code;
  if (level < 0 && (code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER)) fail(info);
}

struct Decoder {
  jpeg_decompress_struct info;
  Errors errors;
  std::uint8_t* pixels;
};

bool read_header(Decoder& decoder, const std::string& bytes) {
  if (setjmp(decoder.errors.leave)) return false;
  jpeg_create_decompress(&decoder.info);
  jpeg_mem_src(&decoder.info, reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<unsigned long>(bytes.size()));
  jpeg_save_markers(&decoder.info, JPEG_APP0 + 1, 0xffff);
  jpeg_read_header(&decoder.info, TRUE);
  return true;
}

bool read_pixels(Decoder& decoder) {
  if (setjmp(decoder.errors.leave)) return false;
  decoder.info.out_color_space = JCS_RGB;
  jpeg_start_decompress(&decoder.info);
  const std::size_t row_bytes = std::size_t{3} * decoder.info.output_width;
  while (decoder.info.output_scanline < decoder.info.output_height) {
    JSAMPROW row = decoder.pixels + row_bytes * decoder.info.output_scanline;
    jpeg_read_scanlines(&decoder.info, &row, 1);
  }
  jpeg_finish_decompress(&decoder.info);
  return true;
}

struct Closed {
  jpeg_decompress_struct* info;
  ~Closed() { jpeg_destroy_decompress(info); }
};

}  // namespace

Picture decode_jpeg(const std::string& bytes, const std::string& where, int& orientation) {
  Decoder decoder{};
  decoder.info.err = jpeg_std_error(&decoder.errors.base);
  decoder.errors.base.error_exit = fail;
  decoder.errors.base.emit_message = warn;
  const Closed closed{&decoder.info};
  const auto damaged = [&] {
    return Failure(DPT_BAD_FILE, where + " cannot be decoded: " + decoder.errors.message,
                   "the file is damaged or incomplete: copy or download it again");
  };
  if (!read_header(decoder, bytes)) throw damaged();
  if (decoder.info.num_components == 4) {
    throw Failure(DPT_BAD_FILE, where + " is a JPEG in CMYK", "convert it to RGB, or read it in Python");
  }
  check_pixels(decoder.info.image_width, decoder.info.image_height, where);
  for (const jpeg_marker_struct* marker = decoder.info.marker_list; marker != nullptr; marker = marker->next) {
    if (marker->data_length > kExifBytes && std::memcmp(marker->data, kExif, kExifBytes) == 0) {
      orientation = orientation_of(marker->data + kExifBytes, marker->data_length - kExifBytes);
      break;
    }
  }
  Picture picture;
  picture.size = {static_cast<int>(decoder.info.image_height), static_cast<int>(decoder.info.image_width)};
  picture.rgb.resize(std::size_t{3} * decoder.info.image_height * decoder.info.image_width);
  decoder.pixels = picture.rgb.data();
  if (!read_pixels(decoder)) throw damaged();
  return picture;
}

}  // namespace dpt::core
