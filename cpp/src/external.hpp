// Files that an ONNX graph names as external data, found without parsing the graph.
#pragma once

#include <string>
#include <vector>

namespace dpt::core {

// The locations of external data that the ONNX file `path` names. Damage ends the search: ONNX Runtime refuses such a file.
// Throws Failure (bad file) when the file cannot be read.
std::vector<std::string> external_files(const std::string& path);

}  // namespace dpt::core
