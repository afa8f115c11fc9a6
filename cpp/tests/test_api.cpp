// The C API with a fake back end: results, every misuse, every fault.
#include <cmath>
#include <cstring>
#include <new>
#include <string>

#include "check.hpp"
#include "dpt/dpt.hpp"
#include "fake_backend.hpp"
#include "imaging.hpp"
#include "scratch.hpp"

using nlohmann::json;

namespace {

const scratch::Folder& folder() {
  static const scratch::Folder one;
  return one;
}

// A handle of an artefact after `change` of its sidecar, closed at the end.
class Opened {
 public:
  template <typename Change>
  explicit Opened(const Change& change) {
    fake::install();
    const dpt_options options{sizeof options, "fake", 0, 0, 0, 0, 0};
    const std::string path = folder().artefact("weights", change);
    CHECK(dpt_open(path.c_str(), &options, &handle_) == DPT_OK);
  }
  Opened() : Opened([](json&) {}) {}
  ~Opened() {
    dpt_close(handle_);
    fake::behaviour() = {};
  }
  operator dpt_model() const { return handle_; }

 private:
  dpt_model handle_ = 0;
};

void segmentation(json& sidecar) {
  sidecar["model"]["task"] = "segmentation";
  sidecar["model"]["num_classes"] = 3;
}

std::vector<std::uint8_t> slope(int height, int width) {
  std::vector<std::uint8_t> pixels;
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) pixels.insert(pixels.end(), 3, static_cast<std::uint8_t>(255 * x / width));
  }
  return pixels;
}

const std::vector<std::uint8_t> kPixels = slope(48, 80);
const dpt_image kImage{sizeof(dpt_image), kPixels.data(), 48, 80, 0, DPT_RGB8};

// True if the status is as wanted, with a message that holds `text` and a hint.
bool failed_with(dpt_status found, dpt_status wanted, const char* text) {
  const bool fine = found == wanted && std::strstr(dpt_last_error(), text) != nullptr && *dpt_last_hint() != '\0';
  if (!fine) std::fprintf(stderr, "status %d: %s (%s)\n", found, dpt_last_error(), dpt_last_hint());
  return fine;
}

dpt_status predict(dpt_model model, const dpt_image& image = kImage) {
  std::vector<float> depth(static_cast<std::size_t>(std::max(1, image.height * image.width)));
  return dpt_predict_depth(model, &image, depth.data(), depth.size());
}

// Depth, scores of three classes, and an output of which only the tensor can be read.
void joint(json& sidecar) {
  sidecar["format"] = 2;
  sidecar["model"]["num_classes"] = 3;
  sidecar["outputs"] = {{{"name", "metres"}, {"dtype", "float32"}, {"task", "depth"}},
                        {{"name", "logits"}, {"dtype", "float32"}, {"task", "scores"}},
                        {{"name", "confidence"}, {"dtype", "float32"}, {"task", "depth-confidence"}}};
}

// Canonical depth and the sky; the fake network returns one map for both, the slope of the image.
void with_sky(json& sidecar) {
  sidecar["format"] = 2;
  sidecar["model"]["canonical_focal"] = 300.0;
  sidecar["model"]["png_scale"] = 256.0;
  sidecar["model"]["sky"] = {{"threshold", 0.3}, {"quantile", 0.99}, {"pixels", 10}};
  sidecar["outputs"] = {{{"name", "depth"}, {"dtype", "float32"}, {"task", "canonical-depth"}},
                        {{"name", "sky"}, {"dtype", "float32"}, {"task", "sky"}}};
}

constexpr std::size_t kCount = 48 * 80;

}  // namespace

TEST(several_outputs_of_one_run_are_read_by_name) {
  const Opened model(joint), alone, scores(segmentation);
  std::vector<float> depth(kCount), wanted(kCount);
  std::vector<std::uint16_t> labels(kCount), wanted_labels(kCount);
  CHECK(dpt_predict(model, &kImage) == DPT_OK);
  CHECK(dpt_get_depth(model, "metres", depth.data(), kCount) == DPT_OK);
  CHECK(dpt_get_labels(model, "logits", labels.data(), kCount) == DPT_OK);
  CHECK(dpt_predict_depth(alone, &kImage, wanted.data(), kCount) == DPT_OK && depth == wanted);
  CHECK(dpt_predict_labels(scores, &kImage, wanted_labels.data(), kCount) == DPT_OK && labels == wanted_labels);
  std::fill(depth.begin(), depth.end(), -1.0f);  // NULL is the first that fits; so are the calls for one output
  CHECK(dpt_get_depth(model, nullptr, depth.data(), kCount) == DPT_OK && depth == wanted);
  std::fill(labels.begin(), labels.end(), std::uint16_t{9});
  CHECK(dpt_predict_labels(model, &kImage, labels.data(), kCount) == DPT_OK && labels == wanted_labels);
  dpt_tensor tensor{};
  tensor.struct_size = sizeof tensor;
  CHECK(dpt_get_output(model, "logits", &tensor) == DPT_OK && tensor.rank == 4 && tensor.shape[1] == 3);
}

TEST(the_sky_gets_the_depth_of_the_farthest_ground) {
  const Opened model(with_sky);
  std::vector<float> depth(kCount), sky(kCount), same(kCount);
  CHECK(dpt_predict(model, &kImage) == DPT_OK);
  CHECK(dpt_get_depth(model, "depth", depth.data(), kCount) == DPT_OK);
  CHECK(dpt_get_map(model, "sky", sky.data(), kCount) == DPT_OK);
  CHECK(dpt_get_map(model, "depth", same.data(), kCount) == DPT_OK && same == depth);
  CHECK(sky[79] > 0.9f && depth[79] < 0.3f && depth[79] > 0.2f && depth[2] == sky[2]);
  CHECK(std::abs(depth[70] - depth[79]) < 1e-5f);
  CHECK(failed_with(dpt_get_map(model, "other", sky.data(), kCount), DPT_USAGE, "no output 'other'"));
  CHECK(failed_with(dpt_get_map(model, nullptr, sky.data(), kCount), DPT_USAGE, "name is a null pointer"));
  CHECK(failed_with(dpt_get_depth(model, "sky", sky.data(), kCount), DPT_USAGE, "it is no depth"));
  const Opened several(joint);
  CHECK(dpt_predict(several, &kImage) == DPT_OK);
  CHECK(failed_with(dpt_get_map(several, "logits", sky.data(), kCount), DPT_USAGE, "no map of numbers"));
}

TEST(a_focal_length_turns_canonical_depth_into_metres) {
  const Opened model(with_sky), other;
  std::vector<float> canonical(kCount), metres(kCount);
  CHECK(dpt_predict_depth(model, &kImage, canonical.data(), kCount) == DPT_OK);
  CHECK(dpt_set_focal(model, 600, 900) == DPT_OK);
  CHECK(dpt_predict_depth(model, &kImage, metres.data(), kCount) == DPT_OK);
  const auto factor = static_cast<float>((600.0 * 64 / 80 + 900.0 * 32 / 48) / 2 / 300);  // the network sees 32x64
  CHECK(metres[2] == canonical[2] * factor && metres[79] == canonical[79] * factor);
  dpt_info info{};
  info.struct_size = sizeof info;
  CHECK(dpt_get_info(model, &info) == DPT_OK && info.metric == 1 && info.quantity == DPT_METRES && info.png_scale == 256);
  dpt_output_info output{};
  output.struct_size = sizeof output;
  CHECK(dpt_get_output_info(model, 0, &output) == DPT_OK && output.metric == 1 && output.png_scale == 256);
  CHECK(dpt_get_output_info(model, 1, &output) == DPT_OK && output.task == DPT_SKY && output.metric == 0);
  CHECK(dpt_set_focal(model, 0, 0) == DPT_OK);
  CHECK(dpt_predict_depth(model, &kImage, metres.data(), kCount) == DPT_OK && metres == canonical);
  CHECK(dpt_get_info(model, &info) == DPT_OK && info.metric == 0 && info.quantity == DPT_CANONICAL_DEPTH);
  CHECK(failed_with(dpt_set_focal(model, -1, 600), DPT_USAGE, "focal length is -1"));
  CHECK(failed_with(dpt_set_focal(model, NAN, 600), DPT_USAGE, "focal length is nan"));
  CHECK(failed_with(dpt_set_focal(other, 600, 600), DPT_USAGE, "no canonical depth"));
}

TEST(outputs_are_described) {
  const Opened model(joint);
  int32_t count = 0;
  CHECK(dpt_output_count(model, &count) == DPT_OK && count == 3);
  dpt_output_info info{};
  info.struct_size = sizeof info;
  CHECK(dpt_get_output_info(model, 1, &info) == DPT_OK && std::string(info.name) == "logits");
  CHECK(info.task == DPT_SEGMENTATION && info.num_classes == 3 && info.metric == 0);
  CHECK(dpt_get_output_info(model, 2, &info) == DPT_OK && info.task == DPT_OTHER && info.num_classes == 0);
  CHECK(failed_with(dpt_get_output_info(model, 3, &info), DPT_USAGE, "no output 3; it has 3"));
  CHECK(failed_with(dpt_get_output_info(model, -1, &info), DPT_USAGE, "no output -1"));
}

TEST(an_output_that_cannot_be_read_is_an_error) {
  const Opened model(joint);
  std::vector<float> depth(kCount);
  std::vector<std::uint16_t> labels(kCount);
  dpt_tensor tensor{};
  tensor.struct_size = sizeof tensor;
  CHECK(failed_with(dpt_get_depth(model, nullptr, depth.data(), kCount), DPT_USAGE, "not run on an image"));
  CHECK(failed_with(dpt_get_output(model, "logits", &tensor), DPT_USAGE, "has not run"));
  CHECK(dpt_predict(model, &kImage) == DPT_OK);
  CHECK(failed_with(dpt_get_depth(model, "depht", depth.data(), kCount), DPT_USAGE, "no output 'depht'; it has: metres, logits"));
  CHECK(failed_with(dpt_get_depth(model, "logits", depth.data(), kCount), DPT_USAGE, "it is no depth"));
  CHECK(failed_with(dpt_get_labels(model, "metres", labels.data(), kCount), DPT_USAGE, "it is no segmentation"));
  CHECK(failed_with(dpt_get_depth(model, "metres", depth.data(), kCount - 1), DPT_USAGE, "48x80 pixels need"));
  CHECK(failed_with(dpt_get_output(model, nullptr, &tensor), DPT_USAGE, "null pointer"));
  CHECK(failed_with(dpt_get_output(model, "x", &tensor), DPT_USAGE, "no output 'x'"));
  fake::behaviour().before_run = [] { throw std::bad_alloc(); };
  CHECK(dpt_predict(model, &kImage) == DPT_RESOURCE);
  CHECK(failed_with(dpt_get_output(model, "logits", &tensor), DPT_USAGE, "has not run"));
}

TEST(several_outputs_in_cpp) {
  fake::install();
  dpt::Options options;
  options.backend = "fake";
  auto model = dpt::Model::load(folder().artefact("weights", joint), options);
  model.run({kPixels.data(), 80, 48});
  const dpt::Depth depth = model.depth("metres");
  const dpt::Labels labels = model.labels();
  CHECK(depth.values == model.predict({kPixels.data(), 80, 48}).values && !depth.metric && depth.width == 80);
  CHECK(labels.values == model.segment({kPixels.data(), 80, 48}).values && labels.num_classes == 3);
  CHECK(model.outputs().size() == 3 && model.output("confidence").rank == 3);
}

TEST(depth_of_an_image) {
  const Opened model;
  std::vector<float> depth(48 * 80, NAN);
  CHECK(dpt_predict_depth(model, &kImage, depth.data(), depth.size()) == DPT_OK);
  CHECK(*dpt_last_error() == '\0');
  CHECK(std::abs(depth[40] - (127.0f / 255 - 0.5f) / 0.5f) < 0.02f && depth[5] < depth[70]);
  int32_t height = 0, width = 0;
  CHECK(dpt_network_size(model, 48, 80, &height, &width) == DPT_OK && height == 32 && width == 64);
  dpt_timing timing{sizeof timing, -1, -1, -1};
  CHECK(dpt_get_timing(model, &timing) == DPT_OK && timing.prepare > 0 && timing.model > 0 && timing.finish > 0);
  dpt_info info{};
  info.struct_size = sizeof info;
  CHECK(dpt_get_info(model, &info) == DPT_OK && info.task == DPT_DEPTH && info.stride == 32);
  CHECK(std::string(info.backend) == "fake" && std::string(info.precision) == "fp32");
}

TEST(labels_of_an_image_from_scores_and_from_the_graph) {
  for (const bool in_graph : {false, true}) {
    const Opened model([in_graph](json& sidecar) {
      segmentation(sidecar);
      if (!in_graph) return;
      sidecar["output_kind"] = "labels";
      sidecar["outputs"][0]["dtype"] = "int64";
    });
    std::vector<std::uint16_t> labels(48 * 80, 99);
    CHECK(dpt_predict_labels(model, &kImage, labels.data(), labels.size()) == DPT_OK);
    CHECK(labels[2] == 1 && (in_graph || labels[78] == 3));
    CHECK(failed_with(predict(model), DPT_USAGE, "segmentation model"));
  }
}

TEST(a_byte_input_is_rounded_pixels) {
  const Opened model([](json& sidecar) { sidecar["input_kind"] = "uint8"; });
  std::vector<float> depth(48 * 80);
  CHECK(dpt_predict_depth(model, &kImage, depth.data(), depth.size()) == DPT_OK);
  CHECK(std::abs(depth[40] - 127) < 3);
}

TEST(the_network_alone_takes_any_batch) {
  const Opened model;
  std::vector<float> values(2 * 3 * 32 * 64, 0.5f);
  const dpt_tensor input{sizeof input, values.data(), "float32", 4, {2, 3, 32, 64}};
  dpt_tensor output{};
  output.struct_size = sizeof output;
  CHECK(dpt_infer(model, &input, &output) == DPT_OK);
  CHECK(output.rank == 3 && output.shape[0] == 2 && output.shape[2] == 64 && std::string(output.dtype) == "float32");
  CHECK(static_cast<const float*>(output.data)[2 * 32 * 64 - 1] == 0.5f);
  const auto refused = [&](auto change, const char* text) {
    dpt_tensor wrong = input;
    change(wrong);
    CHECK(failed_with(dpt_infer(model, &wrong, &output), DPT_USAGE, text));
  };
  refused([](dpt_tensor& wrong) { wrong.data = nullptr; }, "input.data");
  refused([](dpt_tensor& wrong) { wrong.dtype = nullptr; }, "input.dtype");
  refused([](dpt_tensor& wrong) { wrong.dtype = "float64"; }, "float64");
  refused([](dpt_tensor& wrong) { wrong.dtype = "uint8"; }, "does not accept uint8");
  refused([](dpt_tensor& wrong) { wrong.rank = 3; }, "rank is 3");
  refused([](dpt_tensor& wrong) { wrong.rank = 5; }, "rank is 5");
  refused([](dpt_tensor& wrong) { wrong.shape[2] = 0; }, "(2, 3, 0, 64)");
  refused([](dpt_tensor& wrong) { wrong.shape[0] = INT64_MAX; }, "does not accept");
  refused([](dpt_tensor& wrong) { wrong.shape[0] = wrong.shape[2] = wrong.shape[3] = 1 << 16; }, "does not accept");
}

TEST(a_fixed_size_is_taken_or_refused) {
  fake::install();
  const std::string path = folder().artefact("weights");
  dpt_options options{sizeof options, "fake", 0, 96, 32, 0, 0};
  dpt_model model = 0;
  CHECK(dpt_open(path.c_str(), &options, &model) == DPT_OK);
  int32_t height = 0, width = 0;
  CHECK(dpt_network_size(model, 500, 20, &height, &width) == DPT_OK && height == 96 && width == 32);
  dpt_close(model);
  options.width = 33;
  CHECK(failed_with(dpt_open(path.c_str(), &options, &model), DPT_USAGE, "96x33 is not a positive multiple"));
  options.width = 0;
  CHECK(failed_with(dpt_open(path.c_str(), &options, &model), DPT_USAGE, "96x0"));
  options.width = 32;
  folder().artefact("weights", [](json& sidecar) { sidecar["shapes"]["static"] = {64, 64}; });
  CHECK(failed_with(dpt_open(path.c_str(), &options, &model), DPT_USAGE, "takes 64x64 only"));
  CHECK(model == 0);
}

TEST(null_pointers_are_refused) {
  const Opened model;
  float depth = 0;
  std::uint16_t label = 0;
  int32_t side = 0;
  dpt_model other = 0;
  CHECK(failed_with(dpt_open(nullptr, nullptr, &other), DPT_USAGE, "path is a null pointer"));
  CHECK(failed_with(dpt_open("x.onnx", nullptr, nullptr), DPT_USAGE, "model is a null pointer"));
  CHECK(failed_with(dpt_get_info(model, nullptr), DPT_USAGE, "info is a null pointer"));
  CHECK(failed_with(dpt_get_timing(model, nullptr), DPT_USAGE, "timing is a null pointer"));
  CHECK(failed_with(dpt_network_size(model, 9, 9, nullptr, &side), DPT_USAGE, "network_height"));
  CHECK(failed_with(dpt_network_size(model, 9, 9, &side, nullptr), DPT_USAGE, "network_width"));
  CHECK(failed_with(dpt_predict_depth(model, nullptr, &depth, 1), DPT_USAGE, "image is a null pointer"));
  CHECK(failed_with(dpt_predict_depth(model, &kImage, nullptr, 48 * 80), DPT_USAGE, "map is a null pointer"));
  CHECK(failed_with(dpt_predict_labels(model, &kImage, nullptr, 48 * 80), DPT_USAGE, "map is a null pointer"));
  CHECK(failed_with(dpt_infer(model, nullptr, nullptr), DPT_USAGE, "input is a null pointer"));
  CHECK(failed_with(dpt_write_depth(nullptr, &depth, 1, 1, 0), DPT_USAGE, "path is a null pointer"));
  CHECK(failed_with(dpt_write_depth("x.pfm", nullptr, 1, 1, 0), DPT_USAGE, "depth is a null pointer"));
  CHECK(failed_with(dpt_write_labels("x.png", nullptr, 1, 1, 1), DPT_USAGE, "labels is a null pointer"));
  CHECK(failed_with(dpt_write_labels(nullptr, &label, 1, 1, 1), DPT_USAGE, "path is a null pointer"));
  CHECK(failed_with(dpt_read_image(nullptr, nullptr), DPT_USAGE, "null pointer"));
  dpt_free_image(nullptr);
}

TEST(structures_are_read_by_their_size) {
  const Opened model;
  dpt_image image = kImage;
  for (const std::size_t size : {std::size_t{0}, std::size_t{8}, SIZE_MAX}) {
    image.struct_size = size;
    CHECK(failed_with(predict(model, image), DPT_USAGE, "struct_size"));
  }
  image.struct_size = offsetof(dpt_image, row_bytes);  // an older caller: rows follow one another, RGB
  image.row_bytes = 1, image.format = static_cast<dpt_pixel_format>(99);
  CHECK(predict(model, image) == DPT_OK);

  struct Newer {
    dpt_image known;
    std::uint64_t more;
  } newer{kImage, 0};
  newer.known.struct_size = sizeof newer;
  CHECK(predict(model, newer.known) == DPT_OK);
  newer.more = 1;
  CHECK(failed_with(predict(model, newer.known), DPT_USAGE, "does not know yet"));

  dpt_info info;
  std::memset(&info, 0x55, sizeof info);
  info.struct_size = offsetof(dpt_info, num_classes);
  CHECK(dpt_get_info(model, &info) == DPT_OK);
  CHECK(info.struct_size == offsetof(dpt_info, num_classes) && info.metric == 0 && info.num_classes == 0x55555555);
}

TEST(images_and_maps_that_do_not_fit_are_refused) {
  const Opened model;
  dpt_image image = kImage;
  image.height = 0;
  CHECK(failed_with(predict(model, image), DPT_USAGE, "0x80"));
  image.height = INT32_MAX;
  float depth = 0;
  CHECK(failed_with(dpt_predict_depth(model, &image, &depth, 1), DPT_USAGE, "2147483647x80"));
  CHECK(failed_with(dpt_predict_depth(model, &kImage, &depth, 1), DPT_USAGE, "room for 1 values"));
  image = kImage, image.format = static_cast<dpt_pixel_format>(7);
  CHECK(failed_with(predict(model, image), DPT_USAGE, "pixel format 7"));
}

TEST(a_handle_is_good_until_it_is_closed) {
  dpt_model stale = 0;
  {
    const Opened model;
    stale = model;
  }
  CHECK(failed_with(dpt_close(stale), DPT_USAGE, "not an open model"));
  CHECK(failed_with(predict(stale), DPT_USAGE, "not an open model"));
  const Opened another;
  CHECK(failed_with(predict(stale), DPT_USAGE, "not an open model") && stale != another);
  CHECK(failed_with(predict(0), DPT_USAGE, "not an open model"));
  CHECK(failed_with(predict(UINT64_MAX), DPT_USAGE, "not an open model"));
}

TEST(faults_of_the_back_end_are_statuses) {
  const Opened model;
  fake::behaviour().add = NAN;
  CHECK(failed_with(predict(model), DPT_NOT_FINITE, "NaN or Inf"));
  fake::behaviour() = {};
  for (const int rank : {1, 2, 4}) {
    fake::behaviour().rank = rank;
    CHECK(failed_with(predict(model), DPT_BAD_FILE, "no depth of one image"));
  }
  fake::behaviour() = {};
  fake::behaviour().before_run = [] { throw std::bad_alloc(); };
  CHECK(failed_with(predict(model), DPT_RESOURCE, "out of memory"));
  fake::behaviour().before_run = [] { throw std::runtime_error("surprise"); };
  CHECK(failed_with(predict(model), DPT_INTERNAL, "surprise"));
  fake::behaviour().before_run = [] { throw 5; };
  CHECK(failed_with(predict(model), DPT_INTERNAL, "unknown exception"));
  fake::behaviour() = {};
  CHECK(predict(model) == DPT_OK && *dpt_last_error() == '\0');  // and it goes on
}

TEST(a_network_of_other_classes_is_refused) {
  const Opened model([](json& sidecar) {
    segmentation(sidecar);
    sidecar["output_kind"] = "labels";  // the fake then gives int64 labels, and the rank of scores is expected below
  });
  std::vector<std::uint16_t> labels(48 * 80);
  fake::behaviour().rank = 4;
  CHECK(failed_with(dpt_predict_labels(model, &kImage, labels.data(), labels.size()), DPT_BAD_FILE, "no segmentation"));
}

TEST(back_ends_are_chosen_or_missed) {
  fake::install();
  dpt_model model = 0;
  dpt_options options{sizeof options, "abacus", 0, 0, 0, 0, 0};
  std::string path = folder().artefact("weights");
  CHECK(failed_with(dpt_open(path.c_str(), &options, &model), DPT_MISSING_BACKEND, "no back end 'abacus'"));
  path = folder().artefact("weights", [](json& sidecar) { sidecar["kind"] = "sundial"; });
  options.backend = nullptr;
  CHECK(failed_with(dpt_open(path.c_str(), &options, &model), DPT_MISSING_BACKEND, "kind 'sundial'"));
  options.backend = "fake";
  CHECK(failed_with(dpt_open(path.c_str(), &options, &model), DPT_USAGE, "does not run"));
  options.threads = -1;
  CHECK(failed_with(dpt_open(path.c_str(), &options, &model), DPT_USAGE, "-1 threads"));
  CHECK(std::string(dpt_backends()).find("fake") != std::string::npos && *dpt_version() != '\0');
}

TEST(maps_and_images_go_through_files) {
  const scratch::Folder files;
  const float depth[] = {1, 2, 3, 4, 5, 6};
  CHECK(dpt_write_depth(files.path("d.pfm").c_str(), depth, 2, 3, 0) == DPT_OK);
  CHECK(dpt::core::read_file(files.path("d.pfm"), 1000).substr(0, 17) == "Pf\n3 2\n-1.000000\n");
  CHECK(dpt_write_depth(files.path("d.png").c_str(), depth, 2, 3, 0) == DPT_OK);
  CHECK(failed_with(dpt_write_depth(files.path("d.jpg").c_str(), depth, 2, 3, 0), DPT_USAGE, "neither .pfm nor .png"));
  CHECK(failed_with(dpt_write_depth(files.path("d.pfm").c_str(), depth, 0, 3, 0), DPT_USAGE, "0x3"));
  CHECK(failed_with(dpt_write_depth("/nonexistent/d.pfm", depth, 2, 3, 0), DPT_RESOURCE, "cannot write"));
  const std::uint16_t labels[] = {1, 2, 3, 1, 2, 3};
  CHECK(dpt_write_labels(files.path("l.png").c_str(), labels, 2, 3, 3) == DPT_OK);
  CHECK(failed_with(dpt_write_labels(files.path("l.pfm").c_str(), labels, 2, 3, 3), DPT_USAGE, "not a .png file"));
  CHECK(files.entries() == 3);
  dpt_image image{};
  image.struct_size = sizeof image;
  CHECK(failed_with(dpt_read_image(files.path("d.pfm").c_str(), &image), DPT_BAD_FILE, "no image that can be read"));
  CHECK(failed_with(dpt_read_image(files.path("absent").c_str(), &image), DPT_BAD_FILE, "cannot read"));
  dpt::core::write_file(files.path("i.ppm"), "P6\n2 1\n255\nabcdef");
  CHECK(dpt_read_image(files.path("i.ppm").c_str(), &image) == DPT_OK && image.width == 2 && image.data[5] == 'f');
  dpt_free_image(&image);
  CHECK(image.data == nullptr);
}

TEST(the_header_for_cpp_throws_and_closes) {
  fake::install();
  const std::string path = folder().artefact("weights");
  dpt::Options options;
  options.backend = "fake";
  auto model = dpt::Model::load(path, options);
  const dpt::Depth depth = model.predict({kPixels.data(), 80, 48});
  CHECK(depth.width == 80 && depth.height == 48 && depth.values.size() == 48 * 80 && !depth.metric);
  dpt::Model moved = std::move(model);
  const dpt_model handle = moved.handle();
  moved = dpt::Model::load(path, options);
  CHECK(moved.handle() != handle);
  const auto thrown = [](const auto& call) {
    try {
      call();
    } catch (const dpt::Error& error) {
      return error.status() == DPT_USAGE && !error.hint().empty();
    }
    return false;
  };
  CHECK(thrown([&] { moved.predict({kPixels.data(), 0, 48}); }));
  CHECK(thrown([&] { moved.predict({kPixels.data(), INT32_MAX, INT32_MAX}); }));
  CHECK(thrown([&] { dpt::write_depth(folder().path("d.pfm"), {80, 49, false, DPT_INVERSE_DEPTH, depth.values}); }));
  CHECK(thrown([&] { dpt::write_labels(folder().path("l.png"), {0, 0, 3, {}}); }));
}

TEST_MAIN()
