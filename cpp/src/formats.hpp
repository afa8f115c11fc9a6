// Maps and images as files: PFM, 16-bit PNG and palette PNG are written, PPM and PGM are read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "imaging.hpp"

namespace dpt::core {

struct Picture {
  Size size;
  std::vector<std::uint8_t> rgb;  // (H, W, 3)
};

// A binary PPM (P6) or PGM (P5, its grey replicated) of 8 bits. Throws Failure (bad file); `where` names it in messages.
Picture parse_pnm(const std::string& bytes, const std::string& where);

std::string pfm_of(const float* values, Size size);                // one channel, little-endian, bottom row first
std::string png16_of(const std::uint16_t* values, Size size);      // grey
// Pixels are the labels, colours those of dpt_deploy/imaging/palette.py. Throws Failure (usage) for a label past the
// classes, or more than 255 of them.
std::string palette_png_of(const std::uint16_t* labels, Size size, int num_classes);

// RGB triples, `num_classes` + 1 of them.
std::vector<std::uint8_t> palette(int num_classes);

}  // namespace dpt::core
