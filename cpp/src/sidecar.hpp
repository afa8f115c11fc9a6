// Content of an artefact's sidecar, read and checked before anything is loaded. The format is that of
// dpt_deploy/artifact/store.py; only what a runtime needs is kept.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "dpt/dpt.h"
#include "imaging.hpp"
#include "preflight.hpp"
#include "sky.hpp"

namespace dpt::core {

struct Payload {
  std::string name, sha256;
  std::uint64_t size_bytes = 0;
};

struct Output {
  std::string name, dtype, task;
  std::optional<dpt_quantity> quantity;  // of depth
  bool labels() const { return task == "labels"; }  // 0-based labels (N, h, w), ArgMax in the graph
  bool of_classes() const { return labels() || task == "scores"; }
  bool sky() const { return task == "sky"; }
};

struct Sidecar {
  std::string kind, precision;
  std::vector<Payload> payloads;
  dpt_task task = DPT_DEPTH;
  bool metric = false;  // an output is metres
  dpt_quantity quantity = DPT_INVERSE_DEPTH;  // of the first output, if it is depth
  double png_scale = 0;
  double canonical_focal = 0, canonical_png_scale = 0;  // of canonical depth, which a focal length turns into metres
  std::optional<SkyRule> sky;  // the sky's depth is filled
  int num_classes = 0;
  int stride = 32;
  ImageRule image;
  bool uint8_input = false;    // bytes (N, H, W, 3), normalised in the graph
  bool labels_output = false;  // 0-based labels (N, h, w), ArgMax in the graph
  std::string input_name;
  std::vector<Output> outputs;  // one or more
  Size static_size;            // 0x0: any multiple of the stride
  std::optional<EngineRecord> engine;  // of a plan, always
};

// Parses the text of a sidecar; `where` names it in messages. Throws Failure (bad file).
Sidecar parse_sidecar(const std::string& text, const std::string& where);

// Reads the sidecar of `path`, and checks that every payload exists with its size and (unless `skip_hashes`) its hash. Throws Failure (bad file).
Sidecar open_artifact(const std::string& path, bool skip_hashes);

}  // namespace dpt::core
