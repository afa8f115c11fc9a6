// dpt_run [--focal FX[,FY]] MODEL IMAGE OUTPUT: applies an artefact to an image and writes depth or labels.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include "dpt/dpt.hpp"

namespace {

constexpr const char* kUsage =
    "usage: dpt_run [--focal FX[,FY]] MODEL.onnx|MODEL.plan IMAGE OUTPUT.pfm|OUTPUT.png\n"
    "  images are JPEG and PNG, where the library was built with libjpeg and libpng, and binary PPM and PGM\n"
    "  depth goes to .pfm or a 16-bit .png, labels to a palette .png\n"
    "  --focal turns canonical depth into metres: focal length of the camera, in pixels of the image\n"
    "  MODEL.plan is experimental: run on one GPU so far\n";

// True if both names lead to one file: writing one would overwrite the other.
bool same_file(const std::string& one, const std::string& other) {
  std::error_code unknown;  // the output need not exist yet
  return std::filesystem::equivalent(one, other, unknown);
}

// Two focal lengths of "FX" or "FX,FY"; {0, 0} if it is neither.
std::pair<double, double> focal_of(const std::string& text) {
  char* end = nullptr;
  const double x = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || (*end != '\0' && *end != ',')) return {0, 0};
  if (*end == '\0') return {x, x};
  const char* second = end + 1;
  const double y = std::strtod(second, &end);
  return end == second || *end != '\0' ? std::pair{0.0, 0.0} : std::pair{x, y};
}

}  // namespace

int main(int argc, char** argv) {
  const bool help = argc == 2 && std::string(argv[1]) == "--help";
  std::pair<double, double> focal;
  const bool has_focal = argc > 2 && std::string(argv[1]) == "--focal";
  if (has_focal) {
    focal = focal_of(argv[2]);
    if (!(focal.first > 0 && focal.second > 0)) {
      std::fprintf(stderr, "dpt_run: --focal %s is no focal length\n  hint: give FX or FX,FY in pixels\n", argv[2]);
      return DPT_USAGE;
    }
    argv += 2, argc -= 2;
  }
  if (help || argc != 4) {
    std::fputs(kUsage, help ? stdout : stderr);
    return help ? DPT_OK : DPT_USAGE;
  }
  for (const std::string& input : {std::string(argv[1]), argv[1] + std::string(".json"), std::string(argv[2])}) {
    if (same_file(input, argv[3])) {
      std::fprintf(stderr, "dpt_run: %s is an input; it would be overwritten\n  hint: name another OUTPUT\n", argv[3]);
      return DPT_USAGE;
    }
  }
  try {
    auto model = dpt::Model::load(argv[1]);
    if (has_focal) model.set_focal(focal.first, focal.second);
    const dpt::Picture image(argv[2]);
    if (model.info().task == DPT_DEPTH) {
      const dpt::Depth depth = model.predict(image);
      dpt::write_depth(argv[3], depth, model.info().png_scale);
    } else {
      dpt::write_labels(argv[3], model.segment(image));
    }
    const dpt_timing time = model.timing();
    std::fprintf(stderr, "prepare %.1f ms, model %.1f ms, finish %.1f ms\n", 1e3 * time.prepare, 1e3 * time.model,
                 1e3 * time.finish);
  } catch (const dpt::Error& error) {
    std::fprintf(stderr, "dpt_run: %s\n  hint: %s\n", error.what(), error.hint().c_str());
    return error.status();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "dpt_run: %s\n  hint: free some memory, or use a smaller image\n", error.what());
    return DPT_RESOURCE;
  }
  return DPT_OK;
}
