// Artefacts made for a test, in a folder that is removed with it.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "files.hpp"
#include "sha256.hpp"

namespace scratch {

// The sidecar of a depth model whose one payload `name` holds `bytes`.
inline nlohmann::json sidecar_of(const std::string& name, const std::string& bytes) {
  dpt::core::Sha256 digest;
  digest.update(bytes.data(), bytes.size());
  return {
      {"format", 1},
      {"kind", "onnx"},
      {"precision", "fp32"},
      {"payloads", {{{"name", name}, {"sha256", digest.hex()}, {"size_bytes", bytes.size()}}}},
      {"model", {{"task", "depth"}, {"num_classes", 0}, {"stride", 32}, {"metric", nullptr}}},
      {"image",
       {{"height", 64}, {"width", 64}, {"resize", "minimal"}, {"keep_aspect", true}, {"mean", {0.5, 0.5, 0.5}}, {"std", {0.5, 0.5, 0.5}}}},
      {"input_kind", "float32"},
      {"output_kind", "scores"},
      {"inputs", {{{"name", "pixel_values"}}}},
      {"outputs", {{{"name", "predicted_depth"}, {"dtype", "float32"}}}},
      {"shapes", {{"stride", 32}, {"static", nullptr}}},
  };
}

class Folder {
 public:
  Folder() {
    std::string pattern = (std::filesystem::temp_directory_path() / ("dpt-test-" + std::string(6, 'X'))).string();  // the pattern for mkdtemp
    path_ = mkdtemp(pattern.data());
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;

  std::string path(const std::string& name) const { return path_ + "/" + name; }
  std::size_t entries() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path_), {}));
  }

  // An artefact of `bytes`, after `change` of its sidecar; returns the path of the model.
  template <typename Change>
  std::string artefact(const std::string& bytes, const Change& change) const {
    nlohmann::json sidecar = sidecar_of("model.onnx", bytes);
    change(sidecar);
    dpt::core::write_file(path("model.onnx"), bytes);
    dpt::core::write_file(path("model.onnx.json"), sidecar.dump());
    return path("model.onnx");
  }
  std::string artefact(const std::string& bytes) const {
    return artefact(bytes, [](nlohmann::json&) {});
  }

 private:
  std::string path_;
};

}  // namespace scratch
