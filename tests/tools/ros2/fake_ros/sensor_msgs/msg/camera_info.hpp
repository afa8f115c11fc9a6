// The members of the real class that the node uses.
#pragma once
#include <array>
#include <cstdint>
#include <memory>

namespace sensor_msgs::msg {
struct CameraInfo {
  using ConstSharedPtr = std::shared_ptr<const CameraInfo>;
  std::uint32_t height = 0, width = 0;
  std::array<double, 9> k{};
};
}  // namespace sensor_msgs::msg
