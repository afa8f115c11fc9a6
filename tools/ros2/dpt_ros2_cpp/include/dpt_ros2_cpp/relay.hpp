// One camera message in, messages of depth and labels out. Nothing here includes ROS: the classes of messages are template
// arguments, so a test drives it with its own.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "dpt/dpt.hpp"

namespace dpt_ros2 {

// The pixels of a message, which must outlive the view. Throws dpt::Error if they cannot be read without a copy.
template <class Message>
dpt::Image view_of(const Message& message) {
  struct Layout {
    const char* encoding;
    dpt_pixel_format format;
    std::size_t channels;
  };
  static constexpr Layout layouts[] = {{"rgb8", DPT_RGB8, 3},   {"bgr8", DPT_BGR8, 3},   {"8UC3", DPT_BGR8, 3},
                                       {"rgba8", DPT_RGBA8, 4}, {"bgra8", DPT_BGRA8, 4}, {"8UC4", DPT_BGRA8, 4},
                                       {"mono8", DPT_GRAY8, 1}, {"8UC1", DPT_GRAY8, 1}};
  for (const Layout& layout : layouts) {
    if (message.encoding != layout.encoding) continue;
    const std::string pixels = std::to_string(message.width) + "x" + std::to_string(message.height) + " pixels";
    if (message.width == 0 || message.height == 0 || message.width > DPT_MAX_SIDE || message.height > DPT_MAX_SIDE) {
      throw dpt::Error(DPT_USAGE, "an image of the camera has " + pixels, "check the driver of the camera");
    }
    if (message.step < message.width * layout.channels ||
        message.data.size() != static_cast<std::size_t>(message.step) * message.height) {
      throw dpt::Error(DPT_USAGE,
                       "an image of the camera has " + pixels + " of " + layout.encoding + ", rows of " +
                           std::to_string(message.step) + " bytes and " + std::to_string(message.data.size()) + " bytes",
                       "the message is damaged, or the driver of the camera writes it wrong");
    }
    return {message.data.data(), static_cast<int>(message.width), static_cast<int>(message.height),
            static_cast<std::ptrdiff_t>(message.step), layout.format};
  }
  throw dpt::Error(DPT_USAGE, "an image of the camera has the encoding '" + message.encoding + "'",
                   "expected rgb8, bgr8, rgba8, bgra8 or mono8; image_proc converts others");
}

// The topic of an output: only metres are called depth, by REP 118. Empty: nothing is published.
inline std::string topic_of(const dpt_output_info& output) {
  if (output.task == DPT_SEGMENTATION) return "labels";
  if (output.task == DPT_SKY) return "sky";
  if (output.task != DPT_DEPTH) return "";
  if (output.metric != 0) return "depth";
  switch (output.quantity) {
    case DPT_RELATIVE_DEPTH: return "relative_depth";
    case DPT_CANONICAL_DEPTH: return "canonical_depth";
    default: return "inverse_depth";
  }
}

// Answers images with messages of maps. `publish` gets a topic and its message; `warn` gets a line for each message that
// cannot be used, and the same line in a row once. `focal` 0: that of the camera.
template <class Image>
class Relay {
 public:
  using Publish = std::function<void(const std::string&, std::unique_ptr<Image>)>;
  using Warn = std::function<void(const std::string&)>;

  Relay(dpt::Model model, Publish publish, Warn warn, double focal = 0)
      : model_(std::move(model)), publish_(std::move(publish)), warn_(std::move(warn)) {
    for (const dpt_output_info& output : model_.outputs()) {
      asks_focal_ = asks_focal_ || (output.task == DPT_DEPTH && output.quantity == DPT_CANONICAL_DEPTH);
    }
    if (focal > 0) model_.set_focal(focal), asks_focal_ = false;
  }

  // Keep the focal length of a CameraInfo; only canonical depth needs it.
  template <class CameraInfo>
  void on_camera_info(const CameraInfo& message) {
    if (!asks_focal_) return;
    const double x = message.k[0], y = message.k[4];
    if (!(std::isfinite(x) && std::isfinite(y) && x > 0 && y > 0)) {
      model_.set_focal(0, 0), width_ = height_ = 0;
      report("camera_info has no focal length (calibrate the camera, or set the parameter focal)");
      return;
    }
    if (x != x_ || y != y_ || width_ == 0) model_.set_focal(x, y);
    x_ = x, y_ = y, width_ = message.width, height_ = message.height;
  }

  // Publish the maps of an image under its own header.
  void on_image(const Image& message) {
    try {
      const dpt::Image view = view_of(message);
      if (width_ != 0 && (width_ != message.width || height_ != message.height)) {
        throw dpt::Error(DPT_USAGE, "camera_info describes images of another size", "publish that of this camera");
      }
      model_.run(view);
      std::set<std::string> sent;
      for (const dpt_output_info& output : model_.outputs()) {
        const std::string topic = topic_of(output);
        if (topic.empty() || !sent.insert(topic).second) continue;
        publish_(topic, answer(output, message));
      }
      last_.clear();
    } catch (const dpt::Error& error) {
      report(std::string(error.what()) + " (" + error.hint() + ")");
    }
  }

 private:
  std::unique_ptr<Image> answer(const dpt_output_info& output, const Image& message) {
    if (output.task == DPT_SEGMENTATION) return made(model_.labels(output.name), "mono16", message);
    return made(output.task == DPT_SKY ? model_.map(output.name) : model_.depth(output.name), "32FC1", message);
  }

  template <class Map>
  static std::unique_ptr<Image> made(const Map& map, const char* encoding, const Image& message) {
    auto image = std::make_unique<Image>();
    const std::size_t size = sizeof(map.values[0]);
    image->header = message.header;
    image->height = message.height, image->width = message.width;
    image->encoding = encoding;
    const std::uint16_t one = 1;
    std::uint8_t low = 0;
    std::memcpy(&low, &one, 1);
    image->is_bigendian = low == 0;
    image->step = static_cast<std::uint32_t>(message.width * size);
    image->data.resize(map.values.size() * size);
    std::memcpy(image->data.data(), map.values.data(), image->data.size());
    return image;
  }

  void report(const std::string& line) {
    if (line != last_) warn_(line);
    last_ = line;
  }

  dpt::Model model_;
  Publish publish_;
  Warn warn_;
  bool asks_focal_ = false;
  double x_ = 0, y_ = 0;
  std::uint32_t width_ = 0, height_ = 0;  // of the images that camera_info describes; 0, 0: none
  std::string last_;
};

}  // namespace dpt_ros2
