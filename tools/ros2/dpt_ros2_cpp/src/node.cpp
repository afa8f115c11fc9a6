// The node `depth`: subscribes to a camera, publishes maps. Experimental: not yet built or run under ROS 2.
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "dpt_ros2_cpp/relay.hpp"
#include "rclcpp/rclcpp.hpp"
#include "sensor_msgs/msg/camera_info.hpp"
#include "sensor_msgs/msg/image.hpp"

namespace {

using sensor_msgs::msg::CameraInfo;
using sensor_msgs::msg::Image;

// Parameters: model (path), backend, threads, height, width, focal (pixels). The queues hold one message, so newer images
// replace older ones while the network computes.
class DepthNode : public rclcpp::Node {
 public:
  DepthNode() : Node("depth"), relay_(opened(), publisher(), warner(), declare_parameter<double>("focal", 0.0)) {
    const auto latest = rclcpp::SensorDataQoS().keep_last(1);
    camera_ = create_subscription<CameraInfo>(
        "camera_info", latest, [this](CameraInfo::ConstSharedPtr message) { relay_.on_camera_info(*message); });
    images_ = create_subscription<Image>(
        "image", latest, [this](Image::ConstSharedPtr message) { relay_.on_image(*message); });
  }

 private:
  dpt::Model opened() {
    dpt::Options options;
    options.backend = declare_parameter<std::string>("backend", "");
    options.threads = static_cast<int>(declare_parameter<std::int64_t>("threads", 0));
    options.height = static_cast<int>(declare_parameter<std::int64_t>("height", 0));
    options.width = static_cast<int>(declare_parameter<std::int64_t>("width", 0));
    return dpt::Model::load(declare_parameter<std::string>("model", ""), options);
  }

  dpt_ros2::Relay<Image>::Publish publisher() {
    return [this](const std::string& topic, std::unique_ptr<Image> message) {
      auto& found = publishers_[topic];
      if (!found) found = create_publisher<Image>("~/" + topic, rclcpp::SensorDataQoS());
      found->publish(std::move(message));
    };
  }

  dpt_ros2::Relay<Image>::Warn warner() {
    return [this](const std::string& line) { RCLCPP_WARN(get_logger(), "%s", line.c_str()); };
  }

  std::map<std::string, rclcpp::Publisher<Image>::SharedPtr> publishers_;
  dpt_ros2::Relay<Image> relay_;
  rclcpp::Subscription<CameraInfo>::SharedPtr camera_;
  rclcpp::Subscription<Image>::SharedPtr images_;
};

}  // namespace

int main(int argc, char** argv) {
  rclcpp::init(argc, argv);
  int code = 0;
  try {
    rclcpp::spin(std::make_shared<DepthNode>());
  } catch (const dpt::Error& error) {
    std::fprintf(stderr, "depth: %s\n%s\n", error.what(), error.hint().c_str());
    code = error.status();
  }
  rclcpp::shutdown();
  return code;
}
