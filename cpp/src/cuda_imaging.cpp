#include "cuda_imaging.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cuda_memory.hpp"
#include "kernels.hpp"
#include "taps.hpp"

namespace dpt::core {
namespace {

std::size_t count_of(Size size) { return static_cast<std::size_t>(size.height) * static_cast<std::size_t>(size.width); }

// Height and width are the last two sides of any output.
Size map_of(const Result& output) {
  const auto rank = static_cast<std::size_t>(output.shape.rank);
  return {static_cast<int>(output.shape.dim[rank - 2]), static_cast<int>(output.shape.dim[rank - 1])};
}

// A filter and its copy on the device.
template <typename Real>
struct DeviceTaps {
  Taps<Real> taps;
  DeviceMemory memory;
  TapView<Real> view{};
};

class CudaImaging final : public DeviceImaging {
 public:
  CudaImaging(DeviceNetwork& network, const Sidecar& sidecar)
      : network_(network), rule_(sidecar.image), bytes_(sidecar.uint8_input), of_graph_(sidecar.labels_output) {}

  void prepare(const Pixels& image, Size size) override {
    const OnDevice here(network_.device());
    void* input = network_.device_input(input_shape(size, bytes_));
    InputJob job{};
    job.planes = bytes_ ? nullptr : static_cast<float*>(input);
    job.bytes = bytes_ ? static_cast<std::uint8_t*>(input) : nullptr;
    job.height = size.height, job.width = size.width;
    std::copy(rule_.mean.begin(), rule_.mean.end(), job.mean);
    std::copy(rule_.std.begin(), rule_.std.end(), job.std);
    waited_for(stream(), [&] {
      job.image = uploaded(image);
      job.rows = uploaded(input_rows_, image.size.height, size.height, opencv_taps);
      job.cols = uploaded(input_cols_, image.size.width, size.width, opencv_taps);
      check_cuda(launch(job, stream()), "resizing the image");
      return 0;
    });
  }

  Result run_prepared() override {
    const OnDevice here(network_.device());
    return waited_for(stream(), [&] { return network_.compute(); });
  }

  bool finite(const Result& output) override {
    const OnDevice here(network_.device());
    flag_.reserve(sizeof(int));
    staged_.reserve(sizeof(int));
    const std::int64_t width = map_of(output).width, values = static_cast<std::int64_t>(output.shape.count());
    const FiniteJob job{static_cast<const float*>(output.data), values / width, width, flag_.as<int>()};
    waited_for(stream(), [&] {
      constexpr const char* kWhat = "the check of the output";
      check_cuda(cudaMemsetAsync(flag_.get(), 0, sizeof(int), stream()), kWhat);
      check_cuda(launch(job, stream()), kWhat);
      check_cuda(cudaMemcpyAsync(staged_.get(), flag_.get(), sizeof(int), cudaMemcpyDeviceToHost, stream()), kWhat);
      return 0;
    });
    return *staged_.as<int>() == 0;
  }

  void depth(const Result& output, Size target, float* out) override {
    const Size size = map_of(output);
    finish(target, out, [&](float* map) {
      MapJob job{static_cast<const float*>(output.data), size.width, {}, {}, target.height, target.width, map};
      job.rows = uploaded(output_rows_, size.height, target.height, taps_of(rule_.restore));
      job.cols = uploaded(output_cols_, size.width, target.width, taps_of(rule_.restore));
      return launch(job, stream());
    });
  }

  void labels(const Result& output, Size target, std::uint16_t* out) override {
    finish(target, out, [&](std::uint16_t* map) {
      if (!of_graph_) return best_scores(output, target, map);
      if (output.dtype == DType::int64) return nearest<std::int64_t>(output, target, map);
      return nearest<std::int32_t>(output, target, map);
    });
  }

 private:
  cudaStream_t stream() const { return network_.stream(); }

  // Copies the rows without gaps through pinned memory, for any order and distance of rows.
  PixelView uploaded(const Pixels& image) {
    const std::size_t row_bytes = static_cast<std::size_t>(image.size.width) * static_cast<std::size_t>(image.step);
    const std::size_t bytes = row_bytes * static_cast<std::size_t>(image.size.height);
    staged_.reserve(bytes);
    image_.reserve(bytes);
    auto* into = staged_.as<std::uint8_t>();
    for (int y = 0; y < image.size.height; ++y, into += row_bytes) {
      std::memcpy(into, image.data + y * image.row_bytes, row_bytes);
    }
    check_cuda(cudaMemcpyAsync(image_.get(), staged_.get(), bytes, cudaMemcpyHostToDevice, stream()), "the image");
    const auto [red, green, blue] = image.rgb;
    return {image_.as<std::uint8_t>(), static_cast<std::ptrdiff_t>(row_bytes), image.step, {red, green, blue}};
  }

  template <typename Real>
  const TapView<Real>& uploaded(DeviceTaps<Real>& axis, int length, int target, void (*make)(int, int, Taps<Real>&)) {
    if (axis.view.index[0] != nullptr && axis.taps.length == length && axis.taps.target == target) return axis.view;
    axis.view = {};  // until the copy is queued
    make(length, target, axis.taps);
    const auto count = static_cast<std::size_t>(target);
    axis.memory.reserve(4 * count * (sizeof(Real) + sizeof(int)));
    Real* weights = axis.memory.template as<Real>();
    int* indices = reinterpret_cast<int*>(weights + 4 * count);
    const auto copy = [&](void* to, const void* from, std::size_t bytes) {
      check_cuda(cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream()), "a filter");
    };
    TapView<Real> view{};
    for (std::size_t k = 0; k < 4; ++k) {
      copy(weights + k * count, axis.taps.weight[k].data(), count * sizeof(Real));
      copy(indices + k * count, axis.taps.index[k].data(), count * sizeof(int));
      view.weight[k] = weights + k * count;
      view.index[k] = indices + k * count;
    }
    check_cuda(cudaStreamSynchronize(stream()), "a filter");  // before the source of the copy changes
    return axis.view = view;
  }

  // Starts `queue(map)`, which fills a map on the device, and copies the map back to `out`.
  template <typename T, typename Queue>
  void finish(Size target, T* out, const Queue& queue) {
    const OnDevice here(network_.device());
    const std::size_t bytes = count_of(target) * sizeof(T);
    map_.reserve(bytes);
    staged_.reserve(bytes);
    waited_for(stream(), [&] {
      check_cuda(queue(map_.as<T>()), "resizing the output");
      check_cuda(cudaMemcpyAsync(staged_.get(), map_.get(), bytes, cudaMemcpyDeviceToHost, stream()), "the map");
      return 0;
    });
    std::memcpy(out, staged_.get(), bytes);
  }

  cudaError_t best_scores(const Result& output, Size target, std::uint16_t* map) {
    const Size size = map_of(output);
    ScoreJob job{static_cast<const float*>(output.data), static_cast<int>(output.shape.dim[1]), size.height, size.width,
                 {}, {}, target.height, target.width, map};
    job.rows = uploaded(output_rows_, size.height, target.height, taps_of(rule_.restore));
    job.cols = uploaded(output_cols_, size.width, target.width, taps_of(rule_.restore));
    return launch(job, stream());
  }

  template <typename Integer>
  cudaError_t nearest(const Result& output, Size target, std::uint16_t* map) const {
    const Size size = map_of(output);
    const auto* labels = static_cast<const Integer*>(output.data);
    return launch(LabelJob<Integer>{labels, size.height, size.width, target.height, target.width, map}, stream());
  }

  DeviceNetwork& network_;
  ImageRule rule_;
  bool bytes_, of_graph_;
  DeviceTaps<double> input_rows_, input_cols_;
  DeviceTaps<float> output_rows_, output_cols_;
  DeviceMemory image_, map_, flag_;
  HostMemory staged_;
};

}  // namespace

std::unique_ptr<DeviceImaging> make_cuda_imaging(DeviceNetwork& network, const Sidecar& sidecar) {
  return std::make_unique<CudaImaging>(network, sidecar);
}

}  // namespace dpt::core
