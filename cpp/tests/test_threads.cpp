// Threads: each with its own model works; a second call of one model is refused; closing during a call is safe.
#include <atomic>
#include <thread>

#include "check.hpp"
#include "dpt/dpt.hpp"
#include "fake_backend.hpp"
#include "scratch.hpp"

namespace {

const std::vector<std::uint8_t> kPixels(40 * 50 * 3, 128);
const dpt_image kImage{sizeof(dpt_image), kPixels.data(), 40, 50, 0, DPT_RGB8};

dpt_status predict(dpt_model model) {
  std::vector<float> depth(40 * 50);
  return dpt_predict_depth(model, &kImage, depth.data(), depth.size());
}

dpt_model open_fake(const scratch::Folder& folder) {
  fake::install();
  const dpt_options options{sizeof options, "fake", 0, 0, 0, 0, 0};
  dpt_model model = 0;
  CHECK(dpt_open(folder.path("model.onnx").c_str(), &options, &model) == DPT_OK);
  return model;
}

void in_threads(int count, const std::function<void()>& work) {
  std::vector<std::thread> threads;
  for (int i = 0; i < count; ++i) threads.emplace_back(work);
  for (auto& thread : threads) thread.join();
}

}  // namespace

TEST(a_model_a_thread) {
  const scratch::Folder folder;
  folder.artefact("weights");
  std::atomic<int> fine{0};
  in_threads(4, [&] {
    for (int i = 0; i < 5; ++i) {
      const dpt_model model = open_fake(folder);
      for (int frame = 0; frame < 3; ++frame) fine += predict(model) == DPT_OK;
      CHECK(dpt_close(model) == DPT_OK);
    }
  });
  CHECK(fine == 4 * 5 * 3);
}

TEST(a_second_thread_in_one_model_is_refused) {
  const scratch::Folder folder;
  folder.artefact("weights");
  const dpt_model model = open_fake(folder);
  std::atomic<bool> inside{false}, go{false};
  fake::behaviour().before_run = [&] {
    inside = true;
    while (!go) std::this_thread::yield();
  };
  std::thread first([&] { CHECK(predict(model) == DPT_OK); });
  while (!inside) std::this_thread::yield();
  CHECK(predict(model) == DPT_USAGE && std::string(dpt_last_error()).find("another thread") != std::string::npos);
  CHECK(dpt_close(model) == DPT_OK);  // the running call keeps what it needs
  CHECK(predict(model) == DPT_USAGE && std::string(dpt_last_error()).find("not an open model") != std::string::npos);
  go = true;
  first.join();
  fake::behaviour() = {};
}

TEST(a_crowd_in_one_model_is_served_or_refused) {
  const scratch::Folder folder;
  folder.artefact("weights");
  const dpt_model model = open_fake(folder);
  std::atomic<int> served{0}, refused{0};
  in_threads(4, [&] {
    for (int i = 0; i < 50; ++i) {
      const dpt_status status = predict(model);
      served += status == DPT_OK;
      refused += status == DPT_USAGE;
    }
  });
  CHECK(served > 0 && served + refused == 200);
  CHECK(dpt_close(model) == DPT_OK);
}

TEST(errors_belong_to_their_thread) {
  CHECK(predict(0) == DPT_USAGE && *dpt_last_error() != '\0');
  std::thread([] { CHECK(*dpt_last_error() == '\0'); }).join();
  CHECK(*dpt_last_error() != '\0');
}

TEST_MAIN()
