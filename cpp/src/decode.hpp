// Image files in memory to pixels: JPEG and PNG where their libraries were found at build time, PPM and PGM always.
#pragma once

#include <string>

#include "formats.hpp"

namespace dpt::core {

// The picture, upright (EXIF orientation is applied), grey replicated, alpha dropped, 16 bits cut to 8: the pixels that
// the Python package reads. The kind is told by content. Throws Failure (bad file); `where` names the file in messages.
Picture decode_image(const std::string& bytes, const std::string& where);
Picture read_image(const std::string& path);

// The decoders of libjpeg and libpng; `orientation` receives the EXIF value, 1 to 8, and stays as it is without one.
Picture decode_jpeg(const std::string& bytes, const std::string& where, int& orientation);
Picture decode_png(const std::string& bytes, const std::string& where, int& orientation);

// The value of the tag Orientation in a TIFF block, as EXIF stores it; 1 if there is none or it is damaged.
int orientation_of(const unsigned char* block, std::size_t size);
Picture upright(Picture picture, int orientation);

// Refuse a picture that is too large to be one before memory is taken for it.
void check_pixels(std::uint64_t width, std::uint64_t height, const std::string& where);

}  // namespace dpt::core
