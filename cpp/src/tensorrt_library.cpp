#include "tensorrt_library.hpp"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstdlib>

#include "error.hpp"

namespace dpt::core {
namespace {

#ifdef TRT_MAJOR_RTX
constexpr const char *kEdition = "tensorrt_rtx", *kFile = "libtensorrt_rtx.so";
#else
constexpr const char *kEdition = "tensorrt", *kFile = "libnvinfer.so";
#endif

std::string headers_major() { return std::to_string(NV_TENSORRT_MAJOR); }

std::string version_of(void* handle) {
  std::string version;
  for (const char* part : {"Major", "Minor", "Patch", "Build"}) {
    const std::string name = std::string("getInferLib") + part + "Version";
    const auto number = reinterpret_cast<std::int32_t (*)()>(dlsym(handle, name.c_str()));
    version += (version.empty() ? "" : ".") + std::to_string(number != nullptr ? number() : 0);
  }
  return version;
}

// The first library that opens: the one DPT_TENSORRT names, the system's. Never closed.
TensorRtLibrary open_library() {
  const char* named = std::getenv("DPT_TENSORRT");
  const std::string names[] = {named != nullptr ? named : "", kFile + ("." + headers_major()), kFile};
  for (const std::string& name : names) {
    void* handle = name.empty() ? nullptr : dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    void* create = handle != nullptr ? dlsym(handle, "createInferRuntime_INTERNAL") : nullptr;
    if (create != nullptr) return {kEdition, version_of(handle), reinterpret_cast<void* (*)(void*, std::int32_t)>(create)};
  }
  return {kEdition, "", nullptr};
}

}  // namespace

const TensorRtLibrary& tensorrt_library() {
  static const TensorRtLibrary one = open_library();
  if (one.create == nullptr) {
    throw Failure(DPT_MISSING_BACKEND, std::string(kFile) + "." + headers_major() + " cannot be opened",
                  "add the folder of TensorRT's libraries to LD_LIBRARY_PATH, or let DPT_TENSORRT name the file");
  }
  if (one.version.substr(0, one.version.find('.')) != headers_major()) {
    throw Failure(DPT_INCOMPATIBLE, "TensorRT's library is of version " + one.version + "; this build has the headers of " +
                                        kEdition + " " + headers_major(),
                  "let DPT_TENSORRT name a " + std::string(kFile) + "." + headers_major());
  }
  return one;
}

std::optional<Gpu> current_gpu(int& device) {
  cudaDeviceProp properties{};
  std::size_t free_bytes = 0, all_bytes = 0;
  const bool found = cudaGetDevice(&device) == cudaSuccess && cudaGetDeviceProperties(&properties, device) == cudaSuccess &&
                     cudaMemGetInfo(&free_bytes, &all_bytes) == cudaSuccess;
  if (!found) {
    cudaGetLastError();  // the empty result reports it
    return std::nullopt;
  }
  return Gpu{properties.name, std::to_string(properties.major) + "." + std::to_string(properties.minor), free_bytes};
}

void TensorRtLogger::log(Severity severity, const char* message) noexcept {
  if (severity > Severity::kERROR) return;
  const std::lock_guard lock(mutex_);
  try {
    last_ = message;
  } catch (...) {  // out of memory: the status is enough
    last_.clear();
  }
}

std::string TensorRtLogger::last() const {
  const std::lock_guard lock(mutex_);
  return last_.empty() ? "" : ": " + last_.substr(0, 300);
}

}  // namespace dpt::core
