// The members of the real class that the node uses.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace sensor_msgs::msg {
struct Header {
  std::string frame_id;
};
struct Image {
  using ConstSharedPtr = std::shared_ptr<const Image>;
  Header header;
  std::uint32_t height = 0, width = 0;
  std::string encoding;
  std::uint8_t is_bigendian = 0;
  std::uint32_t step = 0;
  std::vector<std::uint8_t> data;
};
}  // namespace sensor_msgs::msg
