// What the node uses of rclcpp. Parameters come from `-p name:=value`; spin() reads messages from standard input, one on a
// line, and writes what is published to the folder FAKE_ROS_OUT.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#include "sensor_msgs/msg/camera_info.hpp"
#include "sensor_msgs/msg/image.hpp"

#define RCLCPP_WARN(logger, ...) (static_cast<void>(logger), std::printf("warning: "), std::printf(__VA_ARGS__), std::puts(""))

namespace rclcpp {

inline std::map<std::string, std::string> parameters;

inline void init(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const auto at = word.find(":=");
    if (at != std::string::npos) parameters[word.substr(0, at)] = word.substr(at + 2);
  }
}
inline void shutdown() {}

struct SensorDataQoS {
  SensorDataQoS& keep_last(std::size_t) { return *this; }
};

template <class Message>
struct Publisher {
  using SharedPtr = std::shared_ptr<Publisher>;
  std::string topic;
  void publish(std::unique_ptr<Message> message) {
    static int count = 0;
    const std::string name = std::to_string(count++) + ".raw";
    std::ofstream file(std::string(std::getenv("FAKE_ROS_OUT")) + "/" + name, std::ios::binary);
    file.write(reinterpret_cast<const char*>(message->data.data()), static_cast<std::streamsize>(message->data.size()));
    std::cout << "published: " << topic << ' ' << message->encoding << ' ' << message->height << ' ' << message->width << ' '
              << message->step << ' ' << int(message->is_bigendian) << ' ' << message->header.frame_id << ' ' << name
              << std::endl;
  }
};

template <class Message>
struct Subscription {
  using SharedPtr = std::shared_ptr<Subscription>;
};

class Node {
 public:
  explicit Node(std::string) {}
  template <class Value>
  Value declare_parameter(const std::string& name, const Value& value) {
    const auto found = parameters.find(name);
    if (found == parameters.end()) return value;
    if constexpr (std::is_same_v<Value, std::string>) {
      return found->second;
    } else {
      Value given{};
      std::istringstream(found->second) >> given;
      return given;
    }
  }
  template <class Message, class Callback>
  typename Subscription<Message>::SharedPtr create_subscription(const std::string&, const SensorDataQoS&, Callback call) {
    if constexpr (std::is_same_v<Message, sensor_msgs::msg::Image>) {
      on_image = call;
    } else {
      on_camera = call;
    }
    return std::make_shared<Subscription<Message>>();
  }
  template <class Message>
  typename Publisher<Message>::SharedPtr create_publisher(const std::string& topic, const SensorDataQoS&) {
    return std::make_shared<Publisher<Message>>(Publisher<Message>{topic});
  }
  int get_logger() const { return 0; }

  std::function<void(sensor_msgs::msg::Image::ConstSharedPtr)> on_image;
  std::function<void(sensor_msgs::msg::CameraInfo::ConstSharedPtr)> on_camera;
};

// Lines: `image ENCODING HEIGHT WIDTH STEP FRAME FILE` and `camera_info HEIGHT WIDTH FX FY`.
inline void spin(const std::shared_ptr<Node>& node) {
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string kind, path;
    words >> kind;
    if (kind == "image") {
      auto image = std::make_shared<sensor_msgs::msg::Image>();
      words >> image->encoding >> image->height >> image->width >> image->step >> image->header.frame_id >> path;
      std::ifstream file(path, std::ios::binary);
      image->data.assign(std::istreambuf_iterator<char>(file), {});
      node->on_image(image);
    } else {
      auto camera = std::make_shared<sensor_msgs::msg::CameraInfo>();
      words >> camera->height >> camera->width >> camera->k[0] >> camera->k[4];
      node->on_camera(camera);
    }
  }
}

}  // namespace rclcpp
