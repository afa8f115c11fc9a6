// Image in, map out: the artefact's own pre- and post-processing around a back end.
#pragma once

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
  // The network alone.
  Result infer(const void* data, DType dtype, const Shape& shape);
  const Timing& timing() const { return timing_; }

  std::mutex& mutex() { return mutex_; }  // held during every call that is not const

 private:
  void prepare(const Pixels& image, Size size);
  Result scores(const Pixels& image);
  bool finite(const Result& result) const;
  void check_task(dpt_task task) const;
  void check_map(const Result& result, int rank) const;

  Sidecar sidecar_;
  std::string backend_name_;
  std::unique_ptr<Backend> backend_;
  DeviceImaging* device_ = nullptr;  // of the back end, if it has one and may use it
  InputScratch input_scratch_;
  OutputScratch output_scratch_;
  Timing timing_;
  std::mutex mutex_;
};

}  // namespace dpt::core
