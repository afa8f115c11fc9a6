#include "backend.hpp"

#include <mutex>
#include <vector>

#include "error.hpp"

namespace dpt::core {
namespace {

struct Entry {
  std::string name, kind;
  OpenBackend open;
};

struct Registry {
  std::mutex mutex;
  std::vector<Entry> entries;

  Registry() {
#ifdef DPT_WITH_ONNXRUNTIME
    entries.push_back({"onnxruntime", "onnx", open_onnxruntime});
#endif
#ifdef DPT_WITH_OPENVINO  // after ONNX Runtime, which is the default
    entries.push_back({"openvino", "onnx", open_openvino});
#endif
#ifdef DPT_WITH_TENSORRT
    entries.push_back({"tensorrt", "plan", open_tensorrt});
#endif
  }
};

Registry& registry() {
  static Registry one;
  return one;
}

std::string joined(const Registry& all) {
  std::string names;
  for (const Entry& entry : all.entries) names += (names.empty() ? "" : ",") + entry.name;
  return names;
}

constexpr struct {
  DType dtype;
  const char* name;
  std::size_t size;
} kTypes[] = {{DType::float32, "float32", 4}, {DType::uint8, "uint8", 1}, {DType::int32, "int32", 4}, {DType::int64, "int64", 8}};

}  // namespace

const char* name_of(DType dtype) { return kTypes[static_cast<std::size_t>(dtype)].name; }
std::size_t size_of(DType dtype) { return kTypes[static_cast<std::size_t>(dtype)].size; }

DType dtype_from(const std::string& name) {
  for (const auto& type : kTypes) {
    if (name == type.name) return type.dtype;
  }
  throw Failure(DPT_USAGE, "dtype '" + name + "' is unknown", "expected float32, uint8, int32 or int64");
}

std::size_t Shape::count() const {
  std::size_t product = 1;
  for (int i = 0; i < rank; ++i) product *= static_cast<std::size_t>(dim[static_cast<std::size_t>(i)]);
  return product;
}

std::string text_of(const Shape& shape) {
  std::string text = "(";
  for (int i = 0; i < shape.rank; ++i) text += (i > 0 ? ", " : "") + std::to_string(shape.dim[static_cast<std::size_t>(i)]);
  return text + ")";
}

Shape input_shape(Size size, bool bytes) {
  if (bytes) return {4, {1, size.height, size.width, 3}};
  return {4, {1, 3, size.height, size.width}};
}

void register_backend(const std::string& name, const std::string& kind, OpenBackend open) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  all.entries.push_back({name, kind, std::move(open)});
}

ChosenBackend choose_backend(const std::string& name, const std::string& kind) {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  bool known = false;
  for (const Entry& entry : all.entries) {
    known = known || entry.name == name;
    if (entry.kind == kind && (name.empty() || entry.name == name)) return {entry.name, entry.open};
  }
  if (known) {
    throw Failure(DPT_USAGE, "back end '" + name + "' does not run artefacts of kind '" + kind + "'", "leave it unnamed");
  }
  const std::string has = all.entries.empty() ? "none" : joined(all);
  throw Failure(DPT_MISSING_BACKEND,
                (name.empty() ? "no back end for artefacts of kind '" + kind + "'" : "no back end '" + name + "'") +
                    " in this build (it has: " + has + ")",
                "build the library with ONNX Runtime for .onnx, with TENSORRT_ROOT for .plan");
}

std::string backend_names() {
  Registry& all = registry();
  const std::lock_guard lock(all.mutex);
  return joined(all);
}

}  // namespace dpt::core
