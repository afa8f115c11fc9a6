// SHA-256 (FIPS 180-4) of files, which proves that an artefact is intact.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace dpt::core {

class Sha256 {
 public:
  // `plain`: without the processor's own instructions for it.
  explicit Sha256(bool plain = false) : plain_(plain) {}
  void update(const void* data, std::size_t size);
  std::string hex();  // ends the computation

 private:
  std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::uint8_t, 64> block_{};
  std::uint64_t bytes_ = 0;
  bool plain_;
};

// Hex digest of a file. Throws Failure (bad file) when it cannot be read.
std::string sha256_of(const std::string& path);

}  // namespace dpt::core
