// count_allocations MODEL: calls of malloc in a frame, compared with those of the network alone, with the real back end.
// The difference is what the library adds.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "dpt/dpt.hpp"

static std::atomic<long> allocations{0};

extern "C" void* __libc_malloc(std::size_t size);
extern "C" void* malloc(std::size_t size) {
  ++allocations;
  return __libc_malloc(size);
}

template <typename Call>
static double counted(const Call& call) {
  constexpr int kFrames = 10;
  for (int i = 0; i < 3; ++i) call();
  const long before = allocations;
  for (int i = 0; i < kFrames; ++i) call();
  return static_cast<double>(allocations - before) / kFrames;
}

int main(int argc, char** argv) try {
  if (argc != 2) return std::fprintf(stderr, "usage: count_allocations MODEL\n"), DPT_USAGE;
  auto model = dpt::Model::load(argv[1]);
  const std::vector<std::uint8_t> pixels(480 * 640 * 3, 100);
  const dpt::Image image{pixels.data(), 640, 480};
  dpt::Depth depth;
  const double frame = counted([&] { model.predict(image, depth); });
  std::int32_t height = 0, width = 0;
  dpt::check(dpt_network_size(model.handle(), 480, 640, &height, &width));
  const std::vector<float> values(static_cast<std::size_t>(3 * height * width));
  const dpt_tensor input{sizeof input, values.data(), "float32", 4, {1, 3, height, width}};
  dpt_tensor output{};
  output.struct_size = sizeof output;
  const double network = counted([&] { dpt::check(dpt_infer(model.handle(), &input, &output)); });
  std::printf("{\"frame\": %g, \"network\": %g}\n", frame, network);
  return DPT_OK;
} catch (const dpt::Error& error) {
  std::fprintf(stderr, "%s (%s)\n", error.what(), error.hint().c_str());
  return error.status();
}
