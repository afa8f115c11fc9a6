// Interface of the back ends, which compute the network.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "sidecar.hpp"

namespace dpt::core {

enum class DType { float32, uint8, int32, int64 };

const char* name_of(DType dtype);
DType dtype_from(const std::string& name);  // throws Failure (usage)
std::size_t size_of(DType dtype);

struct Shape {
  int rank = 0;
  std::array<std::int64_t, 4> dim{};
  bool operator==(const Shape& other) const { return rank == other.rank && dim == other.dim; }
  std::size_t count() const;
};

std::string text_of(const Shape& shape);  // "(1, 3, 384, 384)"
Shape input_shape(Size size, bool bytes);  // of one image: (1, 3, h, w), or (1, h, w, 3)

struct Result {
  const void* data = nullptr;
  DType dtype = DType::float32;
  Shape shape;
};

// Resizing on the back end's own device, so that an image goes there and a map comes back. A frame is prepare, run, and
// depth or labels, with the numbers of imaging.hpp in every bit. Throws Failure.
class DeviceImaging {
 public:
  virtual ~DeviceImaging() = default;
  virtual void prepare(const Pixels& image, Size size) = 0;  // as the sidecar says, into the network's input
  virtual Result run_prepared() = 0;                         // the data of this result lie on the device
  virtual bool finite(const Result& output) = 0;
  virtual void depth(const Result& output, Size target, float* out) = 0;
  virtual void labels(const Result& output, Size target, std::uint16_t* out) = 0;
};

// One loaded network with one input and the outputs of its sidecar. Not for two threads at once.
class Backend {
 public:
  virtual ~Backend() = default;
  // Host memory of the back end for the next input of that shape.
  virtual void* input(const Shape& shape) = 0;
  // Runs the network on that input and returns its first output, valid until the next call of input or run. Throws Failure.
  virtual Result run() = 0;
  // One output of the last run, in the order of the sidecar, valid as long as the first one. Throws Failure.
  virtual Result output(std::size_t index) = 0;
  // Null: the CPU resizes.
  virtual DeviceImaging* imaging() { return nullptr; }
};

struct BackendOptions {
  int threads = 0;
};
using OpenBackend =
    std::function<std::unique_ptr<Backend>(const std::string& path, const Sidecar& sidecar, const BackendOptions& options)>;

// Adds a back end that runs artefacts of `kind` ("onnx", "plan"); those of this build are registered already.
void register_backend(const std::string& name, const std::string& kind, OpenBackend open);

struct ChosenBackend {
  std::string name;
  OpenBackend open;
};
// By name, or (empty) the first one for the kind. Throws Failure (missing back end).
ChosenBackend choose_backend(const std::string& name, const std::string& kind);
std::string backend_names();

std::unique_ptr<Backend> open_onnxruntime(const std::string&, const Sidecar&, const BackendOptions&);
std::unique_ptr<Backend> open_openvino(const std::string&, const Sidecar&, const BackendOptions&);
std::unique_ptr<Backend> open_tensorrt(const std::string&, const Sidecar&, const BackendOptions&);

}  // namespace dpt::core
