#include "preflight.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "error.hpp"

namespace dpt::core {
namespace {

constexpr std::uint64_t kRuntimeBytes = 500 << 20;  // of a CUDA context and the library's own code, roughly

// The first four numbers of a version or compute capability; "10.14.1.48.post1" counts as 10.14.1.48.
std::array<long, 4> numbers_of(const std::string& text) {
  std::array<long, 4> found{};
  const char* at = text.c_str();
  for (long& number : found) {
    char* end = nullptr;
    number = std::strtol(at, &end, 10);
    if (end == at || *end != '.') break;
    at = end + 1;
  }
  return found;
}

std::string joined(const std::vector<std::string>& parts, const char* between) {
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : between) + part;
  return text;
}

std::string origin_of(const EngineRecord& record) {
  const std::string where = record.device.empty() ? " without a GPU" : " on " + record.device;
  return "by " + record.library + " " + record.version + where +
         (record.targets.empty() ? "" : " for " + joined(record.targets, ", "));
}

std::string name_of(const Gpu& gpu) { return gpu.name + " (compute capability " + gpu.capability + ")"; }

std::string sizes_of(const Profile& profile) {
  const Size low{profile.low[1], profile.low[2]}, high{profile.high[1], profile.high[2]};
  return text_of(low) + (low == high ? "" : ".." + text_of(high));
}

// The command that builds such an engine again.
std::string rebuild(const EngineRecord& record) {
  std::vector<std::string> sizes;
  int batch = 1;
  for (const Profile& profile : record.profiles) {
    const std::string text = sizes_of(profile);
    if (std::find(sizes.begin(), sizes.end(), text) == sizes.end()) sizes.push_back(text);
    batch = std::max(batch, profile.high[0]);
  }
  return "dpt-deploy build MODEL.onnx --res " + joined(sizes, ",") + " --batch " + std::to_string(batch);
}

void check_library(const EngineRecord& record, const Host& host) {
  const std::string what = "this plan was built by " + record.library + " " + record.version + "; ";
  if (record.library != host.library) {
    throw Failure(DPT_INCOMPATIBLE, what + "this library was built for " + host.library,
                  "build the plan with that one, or this library with the headers of " + record.library);
  }
  const auto built = numbers_of(record.version), here = numbers_of(host.version);
  if (built == here || (record.version_compatible && built < here)) return;
  throw Failure(DPT_INCOMPATIBLE, what + host.version + " is installed, and a plan is bound to its version",
                "build it again here: " + rebuild(record));
}

// A TensorRT-RTX plan is compiled for its GPU when it is loaded. Its targets list the GPUs that it supports.
void check_gpu(const EngineRecord& record, const Gpu& gpu) {
  const bool rtx = record.library == "tensorrt_rtx";
  const auto found = numbers_of(gpu.capability), built = numbers_of(record.capability);
  const bool named = std::find(record.targets.begin(), record.targets.end(), gpu.capability) != record.targets.end();
  const bool same = record.capability.empty() || built == found;
  const bool portable = record.hardware_compatible && std::min(built, found)[0] >= 8;
  if (rtx ? record.targets.empty() || named : same || portable) return;
  const std::string what = "this plan was built " + origin_of(record) + "; it does not run on " + name_of(gpu);
  if (rtx) {
    throw Failure(DPT_INCOMPATIBLE, what,
                  "build it again with --compute-capabilities " + joined(record.targets, ",") + "," + gpu.capability);
  }
  throw Failure(DPT_INCOMPATIBLE, what, "build it again there (" + rebuild(record) + "), or once with --hardware-compatible");
}

std::string gigabytes(std::uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f GB", static_cast<double>(bytes) / 1e9);
  return text;
}

std::uint64_t pixels_of(const Profile& profile) {
  std::uint64_t product = 1;
  for (const int side : profile.high) product *= static_cast<std::uint64_t>(side);
  return product;
}

}  // namespace

std::string text_of(const Profile& profile) {
  const std::string low = std::to_string(profile.low[0]), high = std::to_string(profile.high[0]);
  return sizes_of(profile) + " batch " + low + (low == high ? "" : ".." + high);
}

void check_target(const EngineRecord& record, const Host& host) {
  if (record.stripped) {
    throw Failure(DPT_INCOMPATIBLE,
                  "this plan was built without its weights (--strip-weights) and cannot run before it gets some",
                  "put them in on the GPU that will run it: dpt-deploy refit PLAN MODEL.onnx");
  }
  if (!host.gpu) {
    throw Failure(DPT_INCOMPATIBLE,
                  "this plan needs an NVIDIA GPU to run; the driver finds none. It was built " + origin_of(record),
                  "copy the plan and its .json to the machine that will run it; here, run the ONNX file");
  }
  check_library(record, host);
  check_gpu(record, *host.gpu);
  const std::uint64_t needed = record.weight_bytes + record.activation_bytes + kRuntimeBytes;
  if (needed > host.gpu->free_bytes) {
    throw Failure(DPT_RESOURCE, "the engine needs about " + gigabytes(needed) + " of device memory at its largest shape; " +
                  gigabytes(host.gpu->free_bytes) + " are free on " + name_of(*host.gpu),
                  "build it for fewer pixels (--res) or a smaller --batch, or stop other programs there");
  }
}

void check_onnxruntime(const std::string& version, const std::string& precision) {
  const std::array<long, 4> right{1, 30, 0, 0};
  if (precision == "int8" && numbers_of(version) < right) {
    throw Failure(DPT_INCOMPATIBLE, "ONNX Runtime " + version + " computes int8 files wrong: it rounds FP16 to INT8 towards zero",
                  "use ONNX Runtime 1.30 or later, or the int8-cpu file of the same export");
  }
}

std::size_t choose_profile(const std::vector<Profile>& profiles, std::int64_t batch, std::int64_t height,
                           std::int64_t width) {
  const std::array<std::int64_t, 3> shape{batch, height, width};
  std::optional<std::size_t> best;
  std::string all;
  for (std::size_t i = 0; i < profiles.size(); ++i) {
    bool inside = true;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      inside = inside && profiles[i].low[axis] <= shape[axis] && shape[axis] <= profiles[i].high[axis];
    }
    if (inside && (!best || pixels_of(profiles[i]) < pixels_of(profiles[*best]))) best = i;
    all += (i > 0 ? "; " : "") + text_of(profiles[i]);
  }
  if (best) return *best;
  throw Failure(DPT_USAGE, "the engine takes no batch of " + std::to_string(batch) + " at " + std::to_string(height) + "x" +
                std::to_string(width) + "; its profiles: " + all,
                "use a size and batch of these, or build it again with others: dpt-deploy build --res ... --batch ...");
}

}  // namespace dpt::core
