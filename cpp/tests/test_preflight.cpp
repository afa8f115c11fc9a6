// A plan that cannot run here is refused from its sidecar: library, version, GPU, memory, shapes. The cases are those of
// tests/engine/test_preflight.py.
#include "preflight.hpp"

#include "check.hpp"
#include "scratch.hpp"
#include "sidecar.hpp"

using namespace dpt::core;
using Json = nlohmann::json;

namespace {

constexpr std::uint64_t kGiB = 1 << 30;
const Gpu kH200{"NVIDIA H200", "9.0", 140 * kGiB}, kA100{"NVIDIA A100", "8.0", 80 * kGiB}, kT4{"Tesla T4", "7.5", 16 * kGiB};
const Gpu kRtx{"NVIDIA GeForce RTX 4090", "8.9", 24 * kGiB};

EngineRecord classic() {
  EngineRecord record;
  record.library = "tensorrt", record.version = "10.14.1.48";
  record.device = "NVIDIA H200 (compute capability 9.0, driver 580.65.06)", record.capability = "9.0";
  record.profiles = {{{1, 384, 672}, {1, 384, 672}}, {{2, 384, 672}, {8, 384, 672}}};
  record.weight_bytes = kGiB, record.activation_bytes = 2 * kGiB;
  return record;
}

EngineRecord portable(std::vector<std::string> targets = {}) {
  EngineRecord record = classic();
  record.library = "tensorrt_rtx", record.version = "1.7.1.116", record.device = record.capability = "";
  record.targets = std::move(targets);
  return record;
}

Host here(const EngineRecord& record, std::optional<Gpu> gpu) { return {record.library, record.version, std::move(gpu)}; }

std::string hint_of(const EngineRecord& record, const Host& host) {
  try {
    check_target(record, host);
  } catch (const Failure& failure) {
    return failure.hint();
  }
  return "";
}

Json plan_sidecar() {
  Json sidecar = scratch::sidecar_of("x.plan", "");
  sidecar["kind"] = "plan";
  sidecar["engine"] = {{"library", "tensorrt"},
                       {"version", "10.14.1.48"},
                       {"device", {{"name", "NVIDIA H200"}, {"capability", "9.0"}, {"driver", "580.65.06"}, {"memory_bytes", 1}}},
                       {"profiles", {{{"low", {1, 64, 64}}, {"best", {2, 96, 96}}, {"high", {2, 96, 128}}}}},
                       {"options", {{"version_compatible", false}, {"hardware_compatible", true}, {"strip_weights", false},
                                    {"compute_capabilities", {"8.9"}}}},
                       {"weight_bytes", 5},
                       {"activation_bytes", 7}};
  return sidecar;
}

}  // namespace

TEST(a_plan_runs_where_it_was_built) {
  check_target(classic(), here(classic(), kH200));
  check_target(classic(), here(classic(), Gpu{"NVIDIA H100", "9.0", 80 * kGiB}));
  EngineRecord wheel = classic();
  wheel.version += ".post1";  // as a Python wheel names itself
  check_target(wheel, here(classic(), kH200));
}

TEST(without_a_gpu_it_says_what_built_it) {
  CHECK_FAILS(DPT_INCOMPATIBLE, "built by tensorrt 10.14.1.48 on NVIDIA H200 (compute capability 9.0",
              check_target(classic(), here(classic(), {})));
  CHECK_FAILS(DPT_INCOMPATIBLE, "without a GPU for 8.9", check_target(portable({"8.9"}), here(portable(), {})));
}

TEST(a_plan_without_its_weights_is_refused_whatever_else_fits) {
  EngineRecord record = classic();
  record.stripped = true;
  CHECK_FAILS(DPT_INCOMPATIBLE, "built without its weights", check_target(record, here(record, kH200)));
  CHECK(hint_of(record, here(record, {})).find("dpt-deploy refit PLAN MODEL.onnx") != std::string::npos);
  Json sidecar = plan_sidecar();
  CHECK(!parse_sidecar(sidecar.dump(), "x.plan.json").engine->stripped);
  sidecar["engine"]["options"]["strip_weights"] = true;
  CHECK(parse_sidecar(sidecar.dump(), "x.plan.json").engine->stripped);
}

TEST(another_library_or_version_is_refused_with_the_line_that_rebuilds) {
  CHECK_FAILS(DPT_INCOMPATIBLE, "this library was built for tensorrt_rtx", check_target(classic(), here(portable(), kH200)));
  const Host later{"tensorrt", "11.4.0.106", kH200};
  CHECK_FAILS(DPT_INCOMPATIBLE, "built by tensorrt 10.14.1.48; 11.4.0.106 is installed", check_target(classic(), later));
  CHECK(hint_of(classic(), later).find("dpt-deploy build MODEL.onnx --res 384x672 --batch 8") != std::string::npos);
}

TEST(a_version_compatible_plan_runs_with_later_versions) {
  EngineRecord record = classic();
  record.version_compatible = true;
  for (const char* version : {"10.15.1.29", "11.4.0.106"}) check_target(record, {"tensorrt", version, kH200});
  for (const char* version : {"10.13.3.9", "9.15.0.0", ""}) {
    CHECK_FAILS(DPT_INCOMPATIBLE, "bound to its version", check_target(record, {"tensorrt", version, kH200}));
  }
}

TEST(another_gpu_is_refused_unless_the_plan_was_built_for_many) {
  EngineRecord record = classic();
  CHECK_FAILS(DPT_INCOMPATIBLE, "does not run on NVIDIA A100", check_target(record, here(record, kA100)));
  CHECK(hint_of(record, here(record, kA100)).find("--hardware-compatible") != std::string::npos);
  record.hardware_compatible = true;
  check_target(record, here(record, kA100));
  CHECK_FAILS(DPT_INCOMPATIBLE, "Tesla T4", check_target(record, here(record, kT4)));
}

TEST(an_rtx_plan_is_bound_to_its_targets_only) {
  check_target(portable(), here(portable(), kRtx));
  check_target(portable({"8.9"}), here(portable(), kRtx));
  CHECK_FAILS(DPT_INCOMPATIBLE, "for 12.0; it does not run on NVIDIA GeForce RTX 4090",
              check_target(portable({"12.0"}), here(portable(), kRtx)));
  CHECK(hint_of(portable({"12.0"}), here(portable(), kRtx)).find("--compute-capabilities 12.0,8.9") != std::string::npos);
}

TEST(an_engine_larger_than_what_is_free_is_refused) {
  Gpu small = kH200;
  small.free_bytes = kGiB;
  CHECK_FAILS(DPT_RESOURCE, "needs about 3.7 GB of device memory at its largest shape; 1.1 GB are free on NVIDIA H200",
              check_target(classic(), here(classic(), small)));
}

TEST(the_narrowest_profile_is_chosen_and_all_are_named_where_none_takes_it) {
  const std::vector<Profile> profiles{{{1, 256, 256}, {8, 512, 512}}, {{1, 384, 384}, {1, 384, 384}}, {{1, 64, 64}, {1, 64, 96}}};
  CHECK(choose_profile(profiles, 1, 384, 384) == 1);
  CHECK(choose_profile(profiles, 2, 384, 384) == 0 && choose_profile(profiles, 1, 512, 256) == 0);
  const char* all = "no batch of 1 at 64x128; its profiles: 256x256..512x512 batch 1..8; 384x384 batch 1; 64x64..64x96 batch 1";
  CHECK_FAILS(DPT_USAGE, all, choose_profile(profiles, 1, 64, 128));
  CHECK_FAILS(DPT_USAGE, "no batch of 9", choose_profile(profiles, 9, 384, 384));
}

TEST(an_onnx_runtime_that_computes_int8_wrong_is_refused) {
  for (const char* version : {"1.24.4", "1.29.1", "1.9.0"}) {
    CHECK_FAILS(DPT_INCOMPATIBLE, "computes int8 files wrong", check_onnxruntime(version, "int8"));
    check_onnxruntime(version, "int8-cpu");
  }
  for (const char* version : {"1.30.0", "1.31.1", "2.0.0"}) check_onnxruntime(version, "int8");
}

TEST(the_record_is_read_from_a_sidecar) {
  const Sidecar found = parse_sidecar(plan_sidecar().dump(), "x.plan.json");
  CHECK(found.engine && found.engine->capability == "9.0" && found.engine->targets == std::vector<std::string>{"8.9"});
  CHECK(text_of(found.engine->profiles.at(0)) == "64x64..96x128 batch 1..2");
  CHECK(found.engine->hardware_compatible && !found.engine->version_compatible && found.engine->activation_bytes == 7);
  Json bare = plan_sidecar();
  bare["engine"]["device"] = nullptr;
  CHECK(parse_sidecar(bare.dump(), "x").engine->device.empty());
}

TEST(a_damaged_record_is_refused) {
  const auto refused = [](const char* text, auto change) {
    Json sidecar = plan_sidecar();
    change(sidecar["engine"]);
    CHECK_FAILS(DPT_BAD_FILE, text, parse_sidecar(sidecar.dump(), "x.plan.json"));
  };
  refused("engine is not an object", [](Json& engine) { engine = nullptr; });
  refused("engine.version is missing", [](Json& engine) { engine.erase("version"); });
  refused("engine.profiles", [](Json& engine) { engine["profiles"] = Json::array(); });
  refused("engine.profiles.low", [](Json& engine) { engine["profiles"][0]["low"][1] = 0; });
  refused("engine.profiles.high", [](Json& engine) { engine["profiles"][0]["high"][2] = 32; });  // below its low
  refused("engine.profiles.high", [](Json& engine) { engine["profiles"][0]["high"] = {1, 64}; });
  refused("compute_capabilities", [](Json& engine) { engine["options"]["compute_capabilities"] = {8.9}; });
  refused("engine.weight_bytes", [](Json& engine) { engine["weight_bytes"] = -1; });
  refused("engine.device.capability", [](Json& engine) { engine["device"]["capability"] = 9; });
}

TEST_MAIN()
