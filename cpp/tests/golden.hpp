// The golden vectors of the Python reference: tests/golden/imaging.json and imaging.npz (uncompressed).
#pragma once

#include <cstdint>
#include <cstring>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "files.hpp"

namespace golden {

struct Array {
  std::string dtype;  // as in the header of a .npy: "<f4", "|u1", …
  std::vector<std::int64_t> shape;
  std::string bytes;

  template <typename T>
  const T* as() const {
    return reinterpret_cast<const T*>(bytes.data());
  }
};

inline std::uint32_t number(const std::string& data, std::size_t at, int bytes) {
  std::uint32_t value = 0;
  for (int i = bytes; i-- > 0;) value = value << 8 | static_cast<unsigned char>(data.at(at + static_cast<std::size_t>(i)));
  return value;
}

inline Array array_of(const std::string& npy) {
  const std::size_t body = 10 + number(npy, 8, 2);
  const std::string header = npy.substr(10, body - 10);
  Array array;
  const std::size_t descr = header.find('\'', header.find(':')) + 1;
  array.dtype = header.substr(descr, header.find('\'', descr) - descr);
  std::size_t at = header.find('(') + 1;
  for (const std::size_t end = header.find(')'); at < end; at = header.find_first_of(",)", at) + 1) {
    if (header.find_first_of("0123456789", at) >= end) break;
    array.shape.push_back(std::stoll(header.substr(at)));
  }
  array.bytes = npy.substr(body);
  return array;
}

// The members of a .npz, by name without ".npy". Sizes stand in the central directory: local headers may hold zeros.
inline std::map<std::string, Array> load_npz(const std::string& path) {
  const std::string data = dpt::core::read_file(path, 1 << 26);
  const std::size_t end = data.rfind("PK\x05\x06");
  if (end == std::string::npos) throw std::runtime_error(path + " is no .npz");
  std::size_t at = number(data, end + 16, 4);
  std::map<std::string, Array> arrays;
  for (std::uint32_t left = number(data, end + 10, 2); left > 0; --left) {
    if (number(data, at + 10, 2) != 0) throw std::runtime_error(path + " is compressed");
    const std::size_t size = number(data, at + 24, 4), name_size = number(data, at + 28, 2);
    const std::size_t local = number(data, at + 42, 4);
    const std::string name = data.substr(at + 46, name_size);
    const std::size_t body = local + 30 + number(data, local + 26, 2) + number(data, local + 28, 2);
    arrays[name.substr(0, name.size() - 4)] = array_of(data.substr(body, size));
    at += 46 + name_size + number(data, at + 30, 2) + number(data, at + 32, 2);
  }
  return arrays;
}

}  // namespace golden
