// The TensorRT back end with fakes of CUDA and TensorRT (tests/nvidia): what it keeps, frees, refuses and survives, and
// that its resizing on the device gives the CPU's bits. Nothing here is tested on a GPU.
#include <cstring>
#include <functional>
#include <random>

#include "backend.hpp"
#include "check.hpp"
#include "dpt/dpt.hpp"
#include "fake.hpp"
#include "scratch.hpp"

using fake::nvidia;
using nlohmann::json;

namespace {

using Change = std::function<void(json&)>;

// A plan for 32x64 in batches of 1, and 32x32 to 96x96 in batches of 1 to 4.
std::string plan_in(const scratch::Folder& folder, const Change& change) {
  return folder.artefact("weights", [&](json& sidecar) {
    sidecar["kind"] = "plan";
    sidecar["engine"] = {{"library", "tensorrt"},
                         {"version", "11.1.0.106"},
                         {"device", {{"name", "NVIDIA H200"}, {"capability", "9.0"}, {"driver", "1"}}},
                         {"options", {{"version_compatible", false}, {"hardware_compatible", false}, {"strip_weights", false}}},
                         {"weight_bytes", 1},
                         {"activation_bytes", 1}};
    json& engine = sidecar["engine"];
    engine["options"]["compute_capabilities"] = json::array();
    engine["profiles"] = {{{"low", {1, 32, 32}}, {"high", {4, 96, 96}}}, {{"low", {1, 32, 64}}, {"high", {1, 32, 64}}}};
    change(sidecar);
  });
}
void as_it_is(json&) {}

// An opened plan; `host` says that the CPU resizes.
class Plan {
 public:
  explicit Plan(const Change& change = as_it_is, bool host = false) {
    static const bool once = [] {
      setenv("DPT_TENSORRT", FAKE_NVIDIA, 1);
      return dpt::core::register_backend("tensorrt", "plan", dpt::core::open_tensorrt), true;
    }();
    (void)once;
    dpt_options options{};
    options.struct_size = sizeof options, options.host_imaging = host ? 1 : 0;
    status = dpt_open(plan_in(folder_, change).c_str(), &options, &model);
  }
  ~Plan() {
    if (model != 0) dpt_close(model);
  }
  dpt_status status = DPT_INTERNAL;
  dpt_model model = 0;

 private:
  scratch::Folder folder_;
};

// Resets the fakes, before and after.
struct Reset {
  Reset() { nvidia() = {}; }
  ~Reset() {
    CHECK(nvidia().held == 0);
    nvidia() = {};
  }
};

bool failed_with(dpt_status found, dpt_status wanted, const char* text) {
  const bool fine = found == wanted && std::strstr(dpt_last_error(), text) != nullptr && *dpt_last_hint() != '\0';
  if (!fine) std::fprintf(stderr, "status %d: %s (%s)\n", found, dpt_last_error(), dpt_last_hint());
  return fine;
}

std::vector<std::uint8_t> noise(std::size_t count) {
  std::mt19937 random(5);
  std::vector<std::uint8_t> bytes(count);
  for (auto& byte : bytes) byte = static_cast<std::uint8_t>(random());
  return bytes;
}

// (48, 80) pixels of four bytes, of which formats with fewer leave some unused.
const std::vector<std::uint8_t> kBytes = noise(48 * 80 * 4);

dpt_image image_of(dpt_pixel_format format) {
  dpt_image image{sizeof(dpt_image), kBytes.data(), 48, 80, 80 * 4, format};
  return image;
}

dpt_status depth_of(const Plan& plan, const dpt_image& image, std::vector<float>& depth) {
  depth.assign(48 * 80, -1);
  return dpt_predict_depth(plan.model, &image, depth.data(), depth.size());
}

dpt_status frame(const Plan& plan) {
  std::vector<float> depth;
  return depth_of(plan, image_of(DPT_RGB8), depth);
}

// One frame of a network of its own batch and size, as tensors.
dpt_status tensor(const Plan& plan, std::int64_t batch, std::int64_t height, std::int64_t width) {
  const std::vector<float> values(static_cast<std::size_t>(batch * 3 * height * width), 0.5f);
  const dpt_tensor input{sizeof input, values.data(), "float32", 4, {batch, 3, height, width}};
  dpt_tensor output{};
  output.struct_size = sizeof output;
  const dpt_status status = dpt_infer(plan.model, &input, &output);
  if (status == DPT_OK) CHECK(static_cast<const float*>(output.data)[batch * height * width - 1] == 0.5f);
  return status;
}

void segmentation(json& sidecar) { sidecar["model"]["task"] = "segmentation", sidecar["model"]["num_classes"] = 5; }

}  // namespace

TEST(the_device_resizes_to_the_bits_of_the_cpu) {
  const Reset reset;
  for (const char* kind : {"float32", "uint8"}) {
    nvidia().type = kind;
    const Change change = [kind](json& sidecar) { sidecar["input_kind"] = kind; };
    const Plan device(change), host(change, true);
    for (const auto format : {DPT_RGB8, DPT_BGR8, DPT_RGBA8, DPT_BGRA8, DPT_GRAY8}) {
      for (const bool flipped : {false, true}) {
        dpt_image image = image_of(format);
        if (flipped) image.data += 47 * 320, image.row_bytes = -320;
        std::vector<float> found, expected;
        CHECK(depth_of(device, image, found) == DPT_OK && depth_of(host, image, expected) == DPT_OK);
        CHECK(found == expected && found[5] != found[6]);
      }
    }
  }
}

TEST(the_device_finds_the_labels_of_the_cpu) {
  const Reset reset;
  nvidia().classes = 5;
  for (const bool of_graph : {false, true}) {
    nvidia().labels = of_graph;
    const Change change = [of_graph](json& sidecar) {
      segmentation(sidecar);
      if (of_graph) sidecar["output_kind"] = "labels", sidecar["outputs"][0]["dtype"] = "int64";
    };
    const Plan device(change), host(change, true);
    std::vector<std::uint16_t> found(48 * 80), expected(48 * 80);
    const dpt_image image = image_of(DPT_RGB8);
    CHECK(dpt_predict_labels(device.model, &image, found.data(), found.size()) == DPT_OK);
    CHECK(dpt_predict_labels(host.model, &image, expected.data(), expected.size()) == DPT_OK);
    CHECK(found == expected && std::count(found.begin(), found.end(), found[0]) < 48 * 80);
  }
}

TEST(sizes_may_change_from_frame_to_frame) {
  const Reset reset;
  const Plan device, host(as_it_is, true);
  for (const auto& [height, width] : {std::pair{48, 80}, {20, 31}, {48, 80}, {48, 40}, {20, 31}}) {
    const dpt_image image{sizeof image, kBytes.data(), height, width, 0, DPT_RGB8};
    const std::size_t count = static_cast<std::size_t>(height * width);
    std::vector<float> found(count), expected(count);
    CHECK(dpt_predict_depth(device.model, &image, found.data(), count) == DPT_OK);
    CHECK(dpt_predict_depth(host.model, &image, expected.data(), count) == DPT_OK);
    CHECK(found == expected);
  }
}

TEST(a_shape_is_captured_at_its_second_run_and_replayed_from_then_on) {
  const Reset reset;
  for (const bool host : {false, true}) {
    nvidia().graph_launches = nvidia().plain_runs = 0;
    const Plan plan(as_it_is, host);
    for (int i = 0; i < 4; ++i) CHECK(frame(plan) == DPT_OK);
    CHECK(nvidia().plain_runs == 1 && nvidia().graph_launches == 3 && nvidia().profile == 1);
  }
  nvidia().captures = false;
  nvidia().plain_runs = 0;
  const Plan plan;
  for (int i = 0; i < 4; ++i) CHECK(frame(plan) == DPT_OK);
  CHECK(nvidia().plain_runs == 4);
}

TEST(a_frame_allocates_nothing_once_its_size_is_known) {
  const Reset reset;
  const Plan plan;
  for (int i = 0; i < 3; ++i) CHECK(frame(plan) == DPT_OK);
  const long held = nvidia().held;
  nvidia().free_bytes = 0;  // every further allocation fails
  for (int i = 0; i < 3; ++i) CHECK(frame(plan) == DPT_OK);
  CHECK(nvidia().held == held);
}

TEST(a_few_shapes_are_kept) {
  const Reset reset;
  const Plan plan;
  long held = 0;
  for (int round = 0; round < 2; ++round) {
    for (int batch = 1; batch <= 4; ++batch) {
      for (const int side : {32, 64, 96}) CHECK(tensor(plan, batch, side, side) == DPT_OK);
    }
    if (round == 1) CHECK(nvidia().held == held);
    held = nvidia().held;
  }
}

TEST(a_shape_outside_every_profile_names_them) {
  const Reset reset;
  const Plan plan;
  const char* all = "no batch of 5 at 64x64; its profiles: 32x32..96x96 batch 1..4; 32x64 batch 1";
  CHECK(failed_with(tensor(plan, 5, 64, 64), DPT_USAGE, all));
  CHECK(tensor(plan, 4, 64, 64) == DPT_OK && nvidia().profile == 0);
}

TEST(a_plan_from_elsewhere_is_refused_before_it_is_read) {
  const Reset reset;
  const auto refused = [](const char* text, const Change& change) {
    const Plan plan([&](json& sidecar) { change(sidecar["engine"]); });
    CHECK(failed_with(plan.status, DPT_INCOMPATIBLE, text));
    CHECK(nvidia().held == 0);
  };
  refused("11.1.0.106 is installed", [](json& engine) { engine["version"] = "10.14.1.48"; });
  refused("was built for tensorrt", [](json& engine) { engine["library"] = "tensorrt_rtx"; });
  refused("does not run on NVIDIA H200", [](json& engine) { engine["device"]["capability"] = "8.0"; });
  nvidia().gpu = false;
  refused("needs an NVIDIA GPU", [](json&) {});
  nvidia() = {};
  nvidia().free_bytes = 1000;
  CHECK(failed_with(Plan().status, DPT_RESOURCE, "are free on NVIDIA H200"));
}

TEST(only_a_version_compatible_plan_may_bring_code_for_the_host) {
  const Reset reset;
  nvidia().host_code = true;
  const auto compatible = [](json& sidecar) { sidecar["engine"]["options"]["version_compatible"] = true; };
  CHECK(failed_with(Plan().status, DPT_INCOMPATIBLE, "cannot load"));
  CHECK(Plan(compatible).status == DPT_OK);
}

TEST(a_plan_that_is_not_its_sidecars_is_refused) {
  const Reset reset;
  nvidia().loads = false;
  CHECK(failed_with(Plan().status, DPT_INCOMPATIBLE, "the plan is from elsewhere"));  // TensorRT's own words
  nvidia() = {};
  nvidia().profiles = 3;
  CHECK(failed_with(Plan().status, DPT_BAD_FILE, "other tensors or profiles"));
  nvidia() = {};
  nvidia().type = "int32";
  CHECK(failed_with(Plan().status, DPT_BAD_FILE, "other tensors or profiles"));
  nvidia() = {};
  const Plan renamed([](json& sidecar) { sidecar["inputs"][0]["name"] = "image"; });
  CHECK(failed_with(renamed.status, DPT_BAD_FILE, "other tensors"));
}

TEST(what_is_not_finite_is_noticed_on_the_device) {
  const Reset reset;
  const Plan plan;
  CHECK(frame(plan) == DPT_OK);
  nvidia().spoils = true;
  CHECK(failed_with(frame(plan), DPT_NOT_FINITE, "NaN or Inf"));
  nvidia().spoils = false;
  CHECK(frame(plan) == DPT_OK);
}

TEST(any_call_may_fail_and_nothing_is_lost) {
  const Reset reset;
  for (const bool host : {false, true}) {
    int failures = 0;
    for (int call = 1; call < 1000; ++call) {
      nvidia() = {};
      nvidia().fails_at = call;
      {
        const Plan plan(as_it_is, host);
        for (int i = 0; plan.status == DPT_OK && i < 3; ++i) {
          std::vector<float> depth;
          const dpt_status status = depth_of(plan, image_of(DPT_RGB8), depth);
          failures += status != DPT_OK ? 1 : 0;
          CHECK(status == DPT_OK || (status == DPT_RESOURCE && *dpt_last_error() != '\0'));
        }
        const bool failed = nvidia().calls >= call;
        if (plan.status == DPT_OK) CHECK((frame(plan) == DPT_OK) || !failed);  // it goes on
      }
      CHECK(nvidia().held == 0);
      if (nvidia().calls < call) break;  // there was no such call
    }
    CHECK(failures > 10);
  }
}

TEST(a_network_that_does_not_start_is_reported) {
  const Reset reset;
  const Plan plan;
  nvidia().computes = false;
  CHECK(failed_with(frame(plan), DPT_RESOURCE, "did not start the run"));
}

TEST(the_work_is_done_on_the_models_own_gpu) {
  const Reset reset;
  {
    const Plan plan, host(as_it_is, true);
    nvidia().device = 1;  // as another thread would have it
    for (int i = 0; i < 3; ++i) CHECK(frame(plan) == DPT_OK && frame(host) == DPT_OK);
    CHECK(nvidia().device == 1);
  }
  CHECK(nvidia().used_on_other_device == 0 && nvidia().device == 1);
}

// Two outputs come to the host, where the CPU resizes them, also from a captured graph.
TEST(an_engine_with_two_outputs_returns_both) {
  const Reset reset;
  const auto joint = [](json& sidecar) {
    sidecar["format"] = 2;
    sidecar["model"]["num_classes"] = 5;
    sidecar["outputs"] = {{{"name", "predicted_depth"}, {"dtype", "float32"}, {"task", "depth"}},
                          {{"name", "logits"}, {"dtype", "float32"}, {"task", "scores"}}};
  };
  std::vector<float> wanted, depth(48 * 80);
  std::vector<std::uint16_t> wanted_labels(48 * 80), labels(48 * 80);
  const dpt_image image = image_of(DPT_RGB8);
  {
    const Plan alone(as_it_is, true);
    CHECK(depth_of(alone, image, wanted) == DPT_OK);
  }
  nvidia().classes = 5;
  {
    const Plan alone(segmentation, true);
    CHECK(dpt_predict_labels(alone.model, &image, wanted_labels.data(), labels.size()) == DPT_OK);
  }
  CHECK(Plan(joint).status == DPT_BAD_FILE);  // the engine has one output, its sidecar two
  nvidia().joint = true;
  CHECK(Plan(as_it_is).status == DPT_BAD_FILE);
  const Plan both(joint);
  CHECK(both.status == DPT_OK);
  for (int run = 0; run < 3; ++run) {
    CHECK(dpt_predict(both.model, &image) == DPT_OK);
    CHECK(dpt_get_depth(both.model, "predicted_depth", depth.data(), depth.size()) == DPT_OK && depth == wanted);
    CHECK(dpt_get_labels(both.model, "logits", labels.data(), labels.size()) == DPT_OK && labels == wanted_labels);
  }
}

TEST_MAIN()
