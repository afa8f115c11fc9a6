// The faults and counters of the fakes that a test sets and reads.
#pragma once

#include <cstddef>
#include <string>

namespace fake {

struct Nvidia {
  // set
  bool gpu = true;
  bool loads = true;        // plans
  bool host_code = false;   // plans bring code for the host, and load where that is allowed
  bool captures = true;     // graphs
  bool computes = true;     // the network starts
  bool spoils = false;      // the network returns NaN
  bool labels = false;      // the network returns int64 labels, (N, h, w)
  int classes = 0;          // scores of so many, (N, classes, h, w)
  bool joint = false;       // depth, and those scores as a second output 'logits'
  std::string type;         // "int32": the engine's output has another type than its sidecar states
  int profiles = 2;
  std::size_t free_bytes = std::size_t{1} << 40;
  int fails_at = 0;         // the n-th call of CUDA that returns a status fails, from now on counted; 0: none
  // seen
  int calls = 0, graph_launches = 0, plain_runs = 0, profile = -1;
  long held = 0;            // of memory, streams, graphs, contexts, engines, runtimes
  int device = 0;           // the current one
  int used_on_other_device = 0;  // calls that did work while a device other than 0 was current
};

Nvidia& nvidia();

}  // namespace fake
