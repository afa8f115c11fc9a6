// The loop of a camera: one model, one buffer, no allocation per frame. Here the "camera" turns a wheel of colours.
#include <cstdint>
#include <iostream>
#include <vector>

#include <dpt/dpt.hpp>

namespace {

constexpr int kWidth = 320, kHeight = 240;

void capture(int frame, std::vector<std::uint8_t>& bgra) {
  for (std::size_t i = 0; i < bgra.size(); ++i) bgra[i] = static_cast<std::uint8_t>(i / 4 % kWidth + static_cast<std::size_t>(8 * frame));
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 2) return std::cerr << "usage: frames MODEL\n", DPT_USAGE;
  auto model = dpt::Model::load(argv[1]);
  std::vector<std::uint8_t> pixels(4 * kWidth * kHeight);
  const dpt::Image image{pixels.data(), kWidth, kHeight, 0, DPT_BGRA8};
  dpt::Depth depth;
  for (int frame = 0; frame < 5; ++frame) {
    capture(frame, pixels);
    model.predict(image, depth);
    std::cout << "frame " << frame << ": " << 1e3 * model.timing().model << " ms\n";
  }
} catch (const dpt::Error& error) {
  std::cerr << error.what() << " (" << error.hint() << ")\n";
  return error.status();
}
