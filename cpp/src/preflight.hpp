// Checks from its sidecar that a plan can run on this machine, before it is deserialised (dpt_deploy/engine/preflight.py).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "imaging.hpp"

namespace dpt::core {

// Shapes (batch, height, width) that an engine takes, both ends included.
struct Profile {
  std::array<int, 3> low{}, high{};
};

std::string text_of(const Profile& profile);  // "256x256..512x640 batch 1..8"

// Build record of a plan: the entry `engine` of its sidecar.
struct EngineRecord {
  std::string library, version;     // "tensorrt" or "tensorrt_rtx"
  std::string device, capability;   // the GPU it was built on; empty: none was there
  std::vector<Profile> profiles;
  bool version_compatible = false, hardware_compatible = false;
  bool stripped = false;  // built without its weights, and not refitted since
  std::vector<std::string> targets;  // compute capabilities, of TensorRT-RTX; empty: its own choice
  std::uint64_t weight_bytes = 0, activation_bytes = 0;
};

// Environment of this process: the library that was opened, and the GPU that it would use.
struct Gpu {
  std::string name, capability;  // "9.0"
  std::uint64_t free_bytes = 0;
};
struct Host {
  std::string library, version;
  std::optional<Gpu> gpu;
};

// Throws Failure: incompatible (no weights, no GPU, another library, version or GPU), resource (its memory is too small).
void check_target(const EngineRecord& record, const Host& host);

// Throws Failure (incompatible) where this version of ONNX Runtime computes files of the precision wrong without an error.
// The rows of dpt_deploy/data/known_bad.toml that a processor can meet here.
void check_onnxruntime(const std::string& version, const std::string& precision);

// Index of the narrowest profile that takes the shape. Throws Failure (usage) that names them all.
std::size_t choose_profile(const std::vector<Profile>& profiles, std::int64_t batch, std::int64_t height,
                           std::int64_t width);

}  // namespace dpt::core
