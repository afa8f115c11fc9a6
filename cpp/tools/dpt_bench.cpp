// dpt_bench MODEL [--res 384,512x672] [--image 1080x1920] [--seconds 5] [--threads N] [--json]
// Time of whole predictions, in percentiles, split into preparing the image, the network, and finishing the map.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

#include "dpt/dpt.hpp"

namespace {

constexpr const char* kUsage =
    "usage: dpt_bench MODEL.onnx|MODEL.plan [--res SIZE,SIZE…] [--image HEIGHTxWIDTH] [--seconds S] [--threads N] [--json]\n"
    "  --res      network sizes, 384 or 384x672 (default: as the artefact says for the image)\n"
    "  --image    size of the image (default 1080x1920)\n"
    "  --seconds  for each size (default 5)\n"
    "  MODEL.plan is experimental: run on one GPU so far\n";

using Clock = std::chrono::steady_clock;

struct Size {
  int height = 0, width = 0;
};

struct Arguments {
  std::string model;
  std::vector<Size> sizes;
  Size image{1080, 1920};
  double seconds = 5;
  int threads = 0;
  bool json = false;
};

// Milliseconds of every frame, by step.
struct Times {
  double first = 0;  // from the opening of the file to the first result
  std::vector<double> total, prepare, model, finish;
};

bool read_size(const char*& text, Size& size) {
  char* end = nullptr;
  size.height = static_cast<int>(std::strtol(text, &end, 10));
  if (end == text) return false;
  size.width = size.height;
  if (*end == 'x') {
    text = end + 1;
    size.width = static_cast<int>(std::strtol(text, &end, 10));
    if (end == text) return false;
  }
  text = end;
  return size.height > 0 && size.width > 0 && size.height <= 65536 && size.width <= 65536;
}

bool read_sizes(const char* text, std::vector<Size>& sizes) {
  for (Size size; read_size(text, size); ++text) {
    sizes.push_back(size);
    if (*text == '\0') return true;
    if (*text != ',') return false;
  }
  return false;
}

bool read_arguments(int argc, char** argv, Arguments& found) {
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--json") {
      found.json = true;
    } else if (word.rfind("--", 0) != 0) {
      if (!found.model.empty()) return false;
      found.model = word;
    } else if (++i == argc) {
      return false;
    } else if (word == "--res") {
      if (!read_sizes(argv[i], found.sizes)) return false;
    } else if (word == "--image") {
      const char* text = argv[i];
      if (!read_size(text, found.image) || *text != '\0') return false;
    } else if (word == "--seconds") {
      found.seconds = std::atof(argv[i]);
    } else if (word == "--threads") {
      char* end = nullptr;
      found.threads = static_cast<int>(std::strtol(argv[i], &end, 10));
      if (end == argv[i] || *end != '\0') return false;
    } else {
      return false;
    }
  }
  return !found.model.empty() && found.seconds > 0;
}

double since(Clock::time_point start) { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); }

// Slopes and hard edges; the content of the image does not change the time.
std::vector<std::uint8_t> picture(Size size) {
  std::vector<std::uint8_t> pixels;
  pixels.reserve(3 * static_cast<std::size_t>(size.height) * static_cast<std::size_t>(size.width));
  for (int y = 0; y < size.height; ++y) {
    for (int x = 0; x < size.width; ++x) {
      pixels.push_back(static_cast<std::uint8_t>(x));
      pixels.push_back(static_cast<std::uint8_t>(y));
      pixels.push_back((x / 64 + y / 64) % 2 != 0 ? 255 : 0);
    }
  }
  return pixels;
}

Times measured(const Arguments& arguments, Size size, const dpt::Image& image) {
  Times times;
  const auto start = Clock::now();
  dpt::Options options;
  options.threads = arguments.threads;
  options.height = size.height, options.width = size.width;
  auto model = dpt::Model::load(arguments.model, options);
  const bool depth = model.info().task == DPT_DEPTH;
  dpt::Depth map;
  dpt::Labels labels;
  const auto frame = [&] { depth ? model.predict(image, map) : model.segment(image, labels); };
  frame();
  times.first = since(start);
  frame();  // the first one may still have grown something
  const auto begin = Clock::now();
  do {
    const auto before = Clock::now();
    frame();
    times.total.push_back(since(before));
    const dpt_timing split = model.timing();
    times.prepare.push_back(1e3 * split.prepare);
    times.model.push_back(1e3 * split.model);
    times.finish.push_back(1e3 * split.finish);
  } while (since(begin) < 1e3 * arguments.seconds || times.total.size() < 3);
  return times;
}

double percentile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  return values[static_cast<std::size_t>(std::lround(share * static_cast<double>(values.size() - 1)))];
}

void print_json(const std::string& size, const Times& times, bool last) {
  std::printf(" {\"size\": \"%s\", \"frames\": %zu, \"first_ms\": %.3f", size.c_str(), times.total.size(), times.first);
  const std::pair<const char*, const std::vector<double>*> parts[] = {
      {"total", &times.total}, {"prepare", &times.prepare}, {"model", &times.model}, {"finish", &times.finish}};
  for (const auto& [name, values] : parts) {
    std::printf(", \"%s_ms\": {\"p50\": %.3f, \"p90\": %.3f, \"p99\": %.3f}", name, percentile(*values, 0.5),
                percentile(*values, 0.9), percentile(*values, 0.99));
  }
  std::printf("}%s\n", last ? "" : ",");
}

void print_line(const std::string& size, const Times& times) {
  const double p50 = percentile(times.total, 0.5);
  std::printf("%-10s %6zu %9.2f %9.2f %9.2f %9.1f %9.2f %9.2f %9.2f %10.1f\n", size.c_str(), times.total.size(), p50,
              percentile(times.total, 0.9), percentile(times.total, 0.99), 1e3 / p50, percentile(times.prepare, 0.5),
              percentile(times.model, 0.5), percentile(times.finish, 0.5), times.first);
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  if (argc == 2 && std::string(argv[1]) == "--help") {
    std::fputs(kUsage, stdout);
    return DPT_OK;
  }
  if (!read_arguments(argc, argv, arguments)) {
    std::fputs(kUsage, stderr);
    return DPT_USAGE;
  }
  if (arguments.sizes.empty()) arguments.sizes.push_back({});
  try {
    const std::vector<std::uint8_t> pixels = picture(arguments.image);
    const dpt::Image image{pixels.data(), arguments.image.width, arguments.image.height};
    if (arguments.json) {
      std::printf("[\n");
    } else {
      std::printf("%-10s %6s %9s %9s %9s %9s %9s %9s %9s %10s\n", "size", "frames", "p50 ms", "p90 ms", "p99 ms",
                  "images/s", "prepare", "model", "finish", "first ms");
    }
    for (std::size_t i = 0; i < arguments.sizes.size(); ++i) {
      const Size size = arguments.sizes[i];
      const Times times = measured(arguments, size, image);
      const std::string name = size.height == 0 ? "own" : std::to_string(size.height) + "x" + std::to_string(size.width);
      arguments.json ? print_json(name, times, i + 1 == arguments.sizes.size()) : print_line(name, times);
      std::fflush(stdout);
    }
    if (arguments.json) std::printf("]\n");
  } catch (const dpt::Error& error) {
    std::fprintf(stderr, "dpt_bench: %s\n  hint: %s\n", error.what(), error.hint().c_str());
    return error.status();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "dpt_bench: %s\n  hint: free some memory, or use a smaller --image\n", error.what());
    return DPT_RESOURCE;
  }
  return DPT_OK;
}
