// A frame allocates nothing once the sizes are known: every malloc and operator new of the process is counted.
#include <atomic>
#include <cstdlib>

#include "check.hpp"
#include "dpt/dpt.hpp"
#include "fake_backend.hpp"
#include "scratch.hpp"

namespace {

std::atomic<long> allocations{0};

}  // namespace

extern "C" void* __libc_malloc(std::size_t size);  // glibc's own, under the one that counts
extern "C" void* malloc(std::size_t size) {
  ++allocations;
  return __libc_malloc(size);
}

namespace {

using Change = std::function<void(nlohmann::json&)>;

// Allocations of ten frames at `sizes` in turn, after each size was seen once.
template <typename Frame>
long allocations_of(const Change& change, const Frame& frame) {
  fake::install();
  const scratch::Folder folder;
  dpt::Options options;
  options.backend = "fake";
  auto model = dpt::Model::load(folder.artefact("weights", change), options);
  const std::vector<std::uint8_t> pixels(90 * 120 * 3, 77);
  const dpt::Image image{pixels.data(), 120, 90};
  frame(model, image);
  const long before = allocations;
  for (int i = 0; i < 10; ++i) frame(model, image);
  return allocations - before;
}

}  // namespace

TEST(depth_allocates_nothing) {
  for (const char* kind : {"float32", "uint8"}) {
    dpt::Depth depth;
    CHECK(allocations_of([kind](auto& json) { json["input_kind"] = kind; },
                         [&](dpt::Model& model, const dpt::Image& image) { model.predict(image, depth); }) == 0);
  }
}

TEST(segmentation_allocates_nothing) {
  dpt::Labels labels;
  const Change change = [](auto& json) { json["model"]["task"] = "segmentation", json["model"]["num_classes"] = 9; };
  CHECK(allocations_of(change, [&](dpt::Model& model, const dpt::Image& image) { model.segment(image, labels); }) == 0);
}

TEST(an_allocation_would_be_noticed) {
  const auto careless = [](dpt::Model& model, const dpt::Image& image) { model.predict(image); };
  CHECK(allocations_of([](auto&) {}, careless) >= 10);
}

TEST_MAIN()
