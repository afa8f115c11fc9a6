// A fake back end: the mean over channels, unless a test changes that.
#pragma once

#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <new>
#include <vector>

#include "backend.hpp"
#include "error.hpp"

namespace fake {

// Behaviour of the next runs; set before models are used.
struct Behaviour {
  std::function<void()> before_run;  // may throw
  float add = 0;                     // to every output: NaN spoils it
  int rank = 0;                      // of the output, if it must be wrong
};
inline Behaviour& behaviour() {
  static Behaviour one;
  return one;
}

class Backend final : public dpt::core::Backend {
 public:
  explicit Backend(const dpt::core::Sidecar& sidecar) : sidecar_(sidecar) {}

  void* input(const dpt::core::Shape& shape) override {
    shape_ = shape;
    input_.resize(shape.count() * (sidecar_.uint8_input ? 1 : sizeof(float)));
    return input_.data();
  }

  dpt::core::Result run() override {
    if (behaviour().before_run) behaviour().before_run();
    return computed(0);
  }

  dpt::core::Result output(std::size_t index) override { return computed(index); }

 private:
  dpt::core::Result computed(std::size_t index) {
    const dpt::core::Output& output = sidecar_.outputs.at(index);
    std::vector<float>& scores_ = kept_[index];
    const std::size_t channel = sidecar_.uint8_input ? 3 : 1;
    const std::int64_t height = shape_.dim[sidecar_.uint8_input ? 1 : 2], width = shape_.dim[sidecar_.uint8_input ? 2 : 3];
    const auto plane = static_cast<std::size_t>(height * width);
    const auto batch = static_cast<std::size_t>(shape_.dim[0]);
    const auto maps = static_cast<std::size_t>(output.of_classes() && !output.labels() ? sidecar_.num_classes : 1);
    scores_.resize(batch * maps * plane);
    for (std::size_t n = 0; n < batch; ++n) {
      for (std::size_t i = 0; i < plane; ++i) {
        float sum = 0;
        for (std::size_t c = 0; c < 3; ++c) sum += channel == 3 ? byte(n * plane + i, c) : real((3 * n + c) * plane + i);
        for (std::size_t m = 0; m < maps; ++m) {
          const float target = static_cast<float>(m) / 2;  // the class whose number is nearest to the mean wins
          scores_[(n * maps + m) * plane + i] = (maps == 1 ? sum / 3 : -std::abs(sum / 3 - target)) + behaviour().add;
        }
      }
    }
    const auto rows = static_cast<std::int64_t>(maps);
    dpt::core::Result result{scores_.data(), dpt::core::DType::float32, {3, {shape_.dim[0], height, width}}};
    if (maps > 1) result.shape = {4, {shape_.dim[0], rows, height, width}};
    if (output.labels()) {
      labels_.assign(scores_.begin(), scores_.end());
      result.data = labels_.data(), result.dtype = dpt::core::DType::int64;
    }
    if (behaviour().rank > 0) result.shape.rank = behaviour().rank;
    return result;
  }

  float byte(std::size_t pixel, std::size_t c) const { return input_[3 * pixel + c]; }
  float real(std::size_t i) const {
    float value;
    std::memcpy(&value, input_.data() + i * sizeof value, sizeof value);
    return value;
  }

  dpt::core::Sidecar sidecar_;
  dpt::core::Shape shape_;
  std::vector<std::uint8_t> input_;
  std::map<std::size_t, std::vector<float>> kept_;  // by output
  std::vector<std::int64_t> labels_;
};

inline void install() {
  static const bool once = [] {
    dpt::core::register_backend("fake", "onnx", [](const std::string&, const dpt::core::Sidecar& sidecar, const dpt::core::BackendOptions&) {
      return std::make_unique<Backend>(sidecar);
    });
    return true;
  }();
  (void)once;
}

}  // namespace fake
