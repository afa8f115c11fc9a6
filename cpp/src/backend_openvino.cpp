// OpenVINO on a CPU, through its C interface. Everything that is not quantised is computed in FP32.
//
// A graph that is compiled for one size is faster than one for any size, because OpenVINO then fuses more of it. So the first
// sizes that arrive get a graph each, and a graph for any size computes all others, as in Python.
//
// The library is opened with the first model, as ONNX Runtime's is. Its headers declare functions to link; here they only
// give the types of those that are looked up.
#include <dlfcn.h>
#include <openvino/c/openvino.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <functional>
#include <vector>

#include "backend.hpp"
#include "error.hpp"
#include "files.hpp"
#include "processor.hpp"

namespace dpt::core {
namespace {

#define DPT_OPENVINO_FUNCTIONS(apply)                                                                               \
  apply(ov_get_openvino_version) apply(ov_version_free) apply(ov_get_last_err_msg) apply(ov_free)                   \
  apply(ov_core_create) apply(ov_core_read_model) apply(ov_core_compile_model)                                      \
  apply(ov_model_free) apply(ov_model_inputs_size) apply(ov_model_outputs_size) apply(ov_model_is_dynamic)          \
  apply(ov_model_const_input) apply(ov_model_reshape_single_input) apply(ov_port_get_partial_shape)                 \
  apply(ov_output_const_port_free) apply(ov_shape_to_partial_shape) apply(ov_partial_shape_free)                    \
  apply(ov_compiled_model_create_infer_request) apply(ov_compiled_model_free)                                       \
  apply(ov_infer_request_set_tensor) apply(ov_infer_request_get_tensor) apply(ov_infer_request_infer)               \
  apply(ov_infer_request_free) apply(ov_tensor_create) apply(ov_tensor_free) apply(ov_tensor_data)                  \
  apply(ov_tensor_get_shape) apply(ov_tensor_get_element_type) apply(ov_shape_free)

struct Library {
#define DPT_MEMBER(name) decltype(&::name) name = nullptr;
  DPT_OPENVINO_FUNCTIONS(DPT_MEMBER)
#undef DPT_MEMBER
  std::string error, version;
};

std::string release_of(const std::string& version) { return version.substr(0, version.find('.', version.find('.') + 1)); }

// The first library that opens: the one DPT_OPENVINO names, the one found at build time. Numbers of its types change
// between releases, so another release than that of the headers is refused.
Library open_library() {
  const char* named = std::getenv("DPT_OPENVINO");
  void* handle = nullptr;
  for (const char* path : {named, DPT_OPENVINO_LIBRARY}) {
    if (handle == nullptr && path != nullptr && *path != '\0') handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  }
  Library library;
  if (handle == nullptr) {
    const char* why = dlerror();
    library.error = std::string("OpenVINO's library cannot be opened: ") + (why != nullptr ? why : "none was found");
    return library;
  }
#define DPT_LOOK_UP(name)                                                         \
  library.name = reinterpret_cast<decltype(&::name)>(dlsym(handle, #name));       \
  if (library.name == nullptr) library.error = "OpenVINO's library lacks " #name;
  DPT_OPENVINO_FUNCTIONS(DPT_LOOK_UP)
#undef DPT_LOOK_UP
  ov_version_t version{};
  if (library.error.empty() && library.ov_get_openvino_version(&version) == OK) {
    library.version = version.buildNumber;
    library.ov_version_free(&version);
  }
  if (library.error.empty() && release_of(library.version) != release_of(DPT_OPENVINO_VERSION)) {
    library.error = "OpenVINO's library is " + library.version + "; this one was built for " DPT_OPENVINO_VERSION;
  }
  return library;
}

// Opened once, never closed. Throws Failure (missing back end).
const Library& library() {
  static const Library one = open_library();
  if (!one.error.empty()) {
    throw Failure(DPT_MISSING_BACKEND, one.error,
                  "pip install openvino==" DPT_OPENVINO_VERSION ", or let DPT_OPENVINO name its libopenvino_c.so");
  }
  return one;
}

std::string last_error() {  // its last line: those before it are places in OpenVINO's source
  const char* message = library().ov_get_last_err_msg();
  std::string text = message != nullptr ? message : "no message";
  if (message != nullptr) library().ov_free(message);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.pop_back();
  const std::size_t line = text.rfind('\n');
  return text.substr(line == std::string::npos ? 0 : line + 1).substr(0, 300);
}

bool is_memory(const std::string& text) {
  std::string lower = text;
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
  return lower.find("alloc") != std::string::npos || lower.find("out of memory") != std::string::npos;
}

ov_element_type_e element_of(DType dtype) {
  switch (dtype) {
    case DType::float32: return F32;
    case DType::uint8: return U8;
    case DType::int32: return I32;
    case DType::int64: return I64;
  }
  return DYNAMIC;
}

template <typename T>
struct Free {
  void (*free)(T*);
  void operator()(T* value) const { free(value); }
};
template <typename T>
using Owned = std::unique_ptr<T, Free<T>>;

// Never destroyed: a model may outlive the destructors of static objects.
ov_core_t* core() {
  static ov_core_t* const one = [] {
    ov_core_t* made = nullptr;
    if (library().ov_core_create(&made) != OK) throw Failure(DPT_MISSING_BACKEND, "OpenVINO: " + last_error(), "install it again");
    return made;
  }();
  return one;
}

constexpr std::size_t kFixedSizes = 2;  // that get a graph of their own; each takes about as much memory as the weights

// A compiled graph, and the tensor that it reads.
struct Graph {
  Shape size;  // the only one that it takes; of rank 0: any
  Owned<ov_compiled_model_t> compiled{nullptr, {nullptr}};
  Owned<ov_infer_request_t> request{nullptr, {nullptr}};
  Owned<ov_tensor_t> input{nullptr, {nullptr}};
  Shape shape;  // of that tensor
};

// True for a graph with group norms. In graphs of one size OpenVINO fuses them into kernels that read freed memory; such a graph
// is compiled without these kernels. The C interface shows no operators, but the file holds their types.
bool has_group_norms(const std::string& path) {
  static const std::string name = "\x22\x12" "GroupNormalization";  // field 4 of ONNX's NodeProto, of 18 bytes
  InputFile file(path);
  std::string window;
  std::vector<char> block(1 << 20);
  while (const std::size_t count = file.read(block.data(), block.size())) {
    window.append(block.data(), count);
    if (window.find(name) != std::string::npos) return true;
    window.erase(0, window.size() - std::min(window.size(), name.size()));
  }
  return false;
}

class OpenVino final : public Backend {
 public:
  OpenVino(const std::string& path, const Sidecar& sidecar, const BackendOptions& options)
      : input_name_(sidecar.input_name),
        input_type_(sidecar.uint8_input ? DType::uint8 : DType::float32),
        outputs_(sidecar.outputs) {
    for (const Output& output : outputs_) {
      dtype_from(output.dtype);  // throws if this library does not know the type
      values_.push_back({nullptr, {library().ov_tensor_free}});
    }
    // It computes some signed 8-bit graphs of earlier exports wrong, and 16-bit graphs in FP32.
    if (sidecar.precision != "fp32" && sidecar.precision != "int8-cpu" && sidecar.precision != "int8-openvino") {
      throw Failure(DPT_INCOMPATIBLE,
                    "back end 'openvino' runs fp32, int8-cpu and int8-openvino; " + path + " is " + sidecar.precision,
                    "export it as int8-openvino");
    }
    open(path, options);
  }

  void* input(const Shape& shape) override {
    Graph& graph = graph_for(shape);
    if (!graph.input || !(shape == graph.shape)) {
      std::vector<std::int64_t> dims(shape.dim.begin(), shape.dim.begin() + shape.rank);
      ov_tensor_t* made = nullptr;
      check(shape, library().ov_tensor_create(element_of(input_type_), ov_shape_t{shape.rank, dims.data()}, &made));
      graph.input = {made, {library().ov_tensor_free}};
      graph.shape = shape;
      check(shape, library().ov_infer_request_set_tensor(graph.request.get(), input_name_.c_str(), made));
    }
    current_ = &graph;
    void* data = nullptr;
    check(shape, library().ov_tensor_data(graph.input.get(), &data));
    return data;
  }

  Result run() override {
    check(current_->shape, library().ov_infer_request_infer(current_->request.get()));
    return output(0);
  }

  Result output(std::size_t index) override {
    const std::string& name = outputs_.at(index).name;
    ov_tensor_t* found = nullptr;  // its memory may be another one after each run
    check(current_->shape, library().ov_infer_request_get_tensor(current_->request.get(), name.c_str(), &found));
    values_[index].reset(found);
    return described(found, dtype_from(outputs_[index].dtype));
  }

 private:
  void open(const std::string& path, const BackendOptions& options) {
    const Library& lib = library();
    ov_model_t* read = nullptr;
    if (lib.ov_core_read_model(core(), path.c_str(), nullptr, &read) != OK) throw unreadable(path);
    model_ = {read, {lib.ov_model_free}};
    std::size_t inputs = 0, outputs = 0;
    if (lib.ov_model_inputs_size(read, &inputs) != OK || lib.ov_model_outputs_size(read, &outputs) != OK) throw unreadable(path);
    if (inputs != 1 || outputs != outputs_.size()) {
      throw Failure(DPT_BAD_FILE, path + " has " + std::to_string(inputs) + " inputs and " + std::to_string(outputs) +
                                      " outputs; expected 1 and " + std::to_string(outputs_.size()), "export again");
    }
    path_ = path;
    threads_ = std::to_string(std::max(0, options.threads));
    group_norms_ = has_group_norms(path);
    any_size_ = lib.ov_model_is_dynamic(read);
    graphs_.reserve(kFixedSizes + 1);  // current_ points into it
  }

  Graph& graph_for(const Shape& shape) {
    for (Graph& graph : graphs_) {
      if (graph.size == shape) return graph;
    }
    const auto any = std::find_if(graphs_.begin(), graphs_.end(), [](const Graph& graph) { return graph.size.rank == 0; });
    const std::size_t fixed = graphs_.size() - (any != graphs_.end() ? 1 : 0);
    if (any_size_ && fixed < kFixedSizes) return compile_for(shape);
    if (any != graphs_.end()) return *any;
    graphs_.push_back(compiled({}, any_size_));
    return graphs_.back();
  }

  Graph& compile_for(const Shape& shape) {
    const Library& lib = library();
    ov_output_const_port_t* port = nullptr;
    ov_partial_shape_t before{}, wanted{};
    std::vector<std::int64_t> dims(shape.dim.begin(), shape.dim.begin() + shape.rank);
    check(shape, lib.ov_model_const_input(model_.get(), &port));
    const Owned<ov_output_const_port_t> input{port, {lib.ov_output_const_port_free}};
    check(shape, lib.ov_port_get_partial_shape(port, &before));
    const Owned<ov_partial_shape_t> any{&before, {lib.ov_partial_shape_free}};
    check(shape, lib.ov_shape_to_partial_shape(ov_shape_t{shape.rank, dims.data()}, &wanted));
    const Owned<ov_partial_shape_t> one{&wanted, {lib.ov_partial_shape_free}};
    const struct Restore {
      std::function<void()> back;
      ~Restore() { back(); }
    } restore{[&] { lib.ov_model_reshape_single_input(model_.get(), before); }};
    check(shape, lib.ov_model_reshape_single_input(model_.get(), wanted));
    graphs_.push_back(compiled(shape, false));
    return graphs_.back();
  }

  Graph compiled(const Shape& size, bool any_size) const {
    const Library& lib = library();
    // Each as a name and a value. OpenVINO's own default of the first is BF16 where the processor has it; 0 threads are its own choice.
    // Floats are exact where sums of integers would be cut.
    constexpr std::size_t kWords = 10;
    ov_compiled_model_t* made = nullptr;
    if (lib.ov_core_compile_model(core(), model_.get(), "CPU", kWords, &made, "INFERENCE_PRECISION_HINT", "f32", "PERFORMANCE_HINT",
                                  "LATENCY", "INFERENCE_NUM_THREADS", threads_.c_str(), "LP_TRANSFORMS_MODE",
                                  sums_8_bits_in_16() ? "NO" : "YES", "SNIPPETS_MODE",
                                  group_norms_ && !any_size ? "DISABLE" : "ENABLE") != OK) {
      throw unreadable(path_);
    }
    Graph graph;
    graph.size = size;
    graph.compiled = {made, {lib.ov_compiled_model_free}};
    ov_infer_request_t* request = nullptr;
    if (lib.ov_compiled_model_create_infer_request(made, &request) != OK) throw unreadable(path_);
    graph.request = {request, {lib.ov_infer_request_free}};
    graph.input = {nullptr, {lib.ov_tensor_free}};
    return graph;
  }

  static Failure unreadable(const std::string& path) {
    const std::string text = last_error();
    if (is_memory(text)) return Failure(DPT_RESOURCE, "out of memory while loading " + path, "free some memory");
    return Failure(DPT_BAD_FILE, "OpenVINO " + library().version + " cannot load " + path + ": " + text, "export again");
  }

  static void check(const Shape& shape, ov_status_e status) {
    if (status != OK) throw rejected(shape, last_error());
  }

  static Failure rejected(const Shape& shape, const std::string& text) {
    if (is_memory(text)) {
      return Failure(DPT_RESOURCE, "out of memory for an input " + text_of(shape) + ": " + text, "use a smaller size");
    }
    return Failure(DPT_USAGE, "the network does not accept an input " + text_of(shape) + ": " + text,
                   "see its inputs with `dpt-deploy inspect`");
  }

  Result described(const ov_tensor_t* tensor, DType stated) const {
    const Library& lib = library();
    ov_shape_t shape{};
    ov_element_type_e type = DYNAMIC;
    void* data = nullptr;
    check(current_->shape, lib.ov_tensor_get_shape(tensor, &shape));
    Result result{nullptr, stated, {}};
    const auto rank = static_cast<std::size_t>(shape.rank);
    const bool fits = rank <= result.shape.dim.size();
    if (fits) {
      result.shape.rank = static_cast<int>(rank);
      std::copy(shape.dims, shape.dims + rank, result.shape.dim.begin());
    }
    lib.ov_shape_free(&shape);
    check(current_->shape, lib.ov_tensor_get_element_type(tensor, &type));
    if (!fits || type != element_of(stated)) {
      throw Failure(DPT_BAD_FILE, "the network returned a tensor of rank " + std::to_string(rank) +
                                      " or of a type that its sidecar does not state", "export again");
    }
    check(current_->shape, lib.ov_tensor_data(tensor, &data));
    result.data = data;
    return result;
  }

  std::string input_name_;
  DType input_type_;
  std::vector<Output> outputs_;
  std::string path_, threads_;
  bool group_norms_ = false, any_size_ = false;
  Owned<ov_model_t> model_{nullptr, {nullptr}};
  std::vector<Graph> graphs_;
  Graph* current_ = nullptr;  // that of the last input
  std::vector<Owned<ov_tensor_t>> values_;  // of the last run
};

}  // namespace

std::unique_ptr<Backend> open_openvino(const std::string& path, const Sidecar& sidecar, const BackendOptions& options) {
  return std::make_unique<OpenVino>(path, sidecar, options);
}

}  // namespace dpt::core
