// Image in, map out: the artefact's own pre- and post-processing around a back end.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>

#include "backend.hpp"

namespace dpt::core {

struct Timing {
  double prepare = 0, model = 0, finish = 0;  // seconds
};

struct ModelOptions {
  std::string backend;
  int threads = 0;
  Size fixed;  // 0x0: the artefact's rule
  bool skip_hashes = false;
  bool host_imaging = false;  // the CPU resizes even if the back end's device can
};

class Model {
 public:
  // Throws Failure.
  Model(const std::string& path, const ModelOptions& options);

  const Sidecar& sidecar() const { return sidecar_; }
  const std::string& backend_name() const { return backend_name_; }
  Size network_size(Size image) const { return core::network_size(image, sidecar_.image, sidecar_.stride); }

  // At the image's own size. Throws Failure.
  void predict_depth(const Pixels& image, float* depth);
  void predict_labels(const Pixels& image, std::uint16_t* labels);
  // The network on an image, whose outputs are then read by name; an empty name is the first output that fits.
  void predict(const Pixels& image);
  void depth(const std::string& name, float* depth, std::size_t count);
  void labels(const std::string& name, std::uint16_t* labels, std::size_t count);
  void map(const std::string& name, float* values, std::size_t count);  // depth, or the sky
  // The focal length of the camera, in pixels of the image: canonical depth is returned in metres; 0, 0: it is not.
  void set_focal(double x, double y);
  // Of an output as it is returned, and the steps per metre of its PNG.
  std::optional<dpt_quantity> quantity_of(const Output& output) const;
  double png_scale_of(const Output& output) const;
  // One output of the last run as the network returned it.
  Result output(const std::string& name);
  // The network alone; its first output.
  Result infer(const void* data, DType dtype, const Shape& shape);
  const Timing& timing() const { return timing_; }

  std::mutex& mutex() { return mutex_; }  // held during every call that is not const

 private:
  void prepare(const Pixels& image, Size size);
  std::size_t index_of(dpt_task task) const;
  std::size_t index_of(const std::string& name) const;
  std::size_t index_of(const std::string& name, dpt_task task) const;
  void check_predicted(std::size_t count) const;
  Result result_of(std::size_t index);
  void depth_of(std::size_t index, float* depth);
  void map_of(std::size_t index, float* values);
  void labels_of(std::size_t index, std::uint16_t* labels);
  const float* numbers_of(std::size_t index, Size& size);
  const float* with_filled_sky(const float* depth, Size size);
  void to_metres(float* depth) const;
  bool finite(const Result& result) const;
  void check_map(const Result& result, std::size_t index, int rank) const;

  Sidecar sidecar_;
  std::string backend_name_;
  std::unique_ptr<Backend> backend_;
  DeviceImaging* device_ = nullptr;  // of the back end, if it has one and may use it
  InputScratch input_scratch_;
  OutputScratch output_scratch_;
  std::vector<float> ground_, filled_;  // of the sky
  double focal_x_ = 0, focal_y_ = 0;
  std::atomic<bool> has_focal_{false};  // read by const functions, in any thread
  Timing timing_;
  bool ran_ = false;        // the outputs of the last run can be read
  Size predicted_;          // of the image that it ran on; 0x0: on a tensor
  Result first_;            // its first output, on the device if that one resizes
  std::mutex mutex_;
};

}  // namespace dpt::core
