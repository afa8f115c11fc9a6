// Hashes, sidecars, image files: valid ones are read, each kind of damage is reported.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <nlohmann/json.hpp>

#include "check.hpp"
#include "external.hpp"
#include "files.hpp"
#include "formats.hpp"
#include "scratch.hpp"
#include "sha256.hpp"
#include "sidecar.hpp"

using namespace dpt::core;
using Json = nlohmann::json;

namespace {

std::string digest_of(const std::string& bytes, std::size_t piece, bool plain = false) {
  Sha256 digest(plain);
  for (std::size_t at = 0; at < bytes.size(); at += piece) digest.update(bytes.data() + at, std::min(piece, bytes.size() - at));
  return digest.hex();
}

// A field of a protocol buffer that holds `content`.
std::string field(unsigned number, const std::string& content) {
  std::string key(1, static_cast<char>((number << 3 | 2) & 0x7f));
  if (number > 15) key = {static_cast<char>(key[0] | 0x80), static_cast<char>(number >> 4)};
  return key + static_cast<char>(content.size()) + content;
}

// A sidecar after `change`.
std::string changed(const std::function<void(Json&)>& change) {
  Json sidecar = scratch::sidecar_of("x.onnx", "");
  change(sidecar);
  return sidecar.dump();
}

void check_refused(const std::function<void(Json&)>& change, const char* text) {
  CHECK_FAILS(DPT_BAD_FILE, text, parse_sidecar(changed(change), "x.onnx.json"));
}

}  // namespace

TEST(sha256_of_known_texts) {
  // The examples of FIPS 180-4 and the empty text.
  CHECK(digest_of("", 1) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(digest_of("abc", 1) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const std::string two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
  CHECK(digest_of(two, 64) == digest_of(two, 7, /*plain=*/true));
  CHECK(digest_of(two, 64) == "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  const std::string million(1000000, 'a');
  for (const std::size_t piece : {std::size_t{1000000}, std::size_t{63}, std::size_t{65}, std::size_t{4096}}) {
    for (const bool plain : {false, true}) {
      CHECK(digest_of(million, piece, plain) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    }
  }
}

TEST(a_sidecar_is_read) {
  const Sidecar found = parse_sidecar(changed([](Json& json) {
                                        json["model"]["metric"] = {{"scale", 1.0}, {"shift", 0.0}, {"png_scale", 256.0}};
                                        json["shapes"]["static"] = {64, 96};
                                        json["something"] = "that later versions say";
                                      }), "x");
  CHECK(found.task == DPT_DEPTH && found.metric && found.png_scale == 256.0);
  CHECK(found.image.height == 64 && found.image.mean[1] == 0.5 && found.image.resize == Resize::minimal);
  CHECK((found.static_size == Size{64, 96}) && found.input_name == "pixel_values" && !found.uint8_input);
}

TEST(the_filter_of_maps_is_read_and_is_bicubic_in_older_sidecars) {
  CHECK(parse_sidecar(changed([](Json&) {}), "x").image.restore == Restore::bicubic);
  const auto named = [](const char* rule) { return changed([&](Json& json) { json["image"]["restore"] = rule; }); };
  CHECK(parse_sidecar(named("bilinear"), "x").image.restore == Restore::bilinear);
  CHECK(parse_sidecar(named("bilinear-corners"), "x").image.restore == Restore::bilinear_corners);
  CHECK_FAILS(DPT_BAD_FILE, "image.restore is 'lanczos'", parse_sidecar(named("lanczos"), "x"));
}

// The sidecar of format 2 with outputs of these tasks.
std::string of_format_2(std::initializer_list<const char*> tasks) {
  return changed([&](Json& json) {
    json["format"] = 2;
    json.erase("output_kind");
    json["model"]["num_classes"] = 7;
    json["outputs"] = Json::array();
    for (const char* task : tasks) {
      json["outputs"].push_back({{"name", std::string("the_") + task}, {"dtype", "float32"}, {"task", task}});
    }
  });
}

TEST(a_sidecar_of_format_2_has_one_or_more_outputs) {
  const Sidecar depth = parse_sidecar(of_format_2({"depth"}), "x");
  CHECK(depth.outputs.size() == 1 && depth.task == DPT_DEPTH && depth.outputs[0].name == "the_depth");
  const Sidecar labels = parse_sidecar(of_format_2({"labels"}), "x");
  CHECK(labels.task == DPT_SEGMENTATION && labels.labels_output);
  const Sidecar both = parse_sidecar(of_format_2({"metric-depth", "scores"}), "x");
  CHECK(both.outputs.size() == 2 && both.outputs[1].task == "scores" && both.task == DPT_DEPTH);
  CHECK_FAILS(DPT_BAD_FILE, "outputs", parse_sidecar(of_format_2({}), "x"));
  CHECK_FAILS(DPT_BAD_FILE, "'poetry'", parse_sidecar(of_format_2({"poetry"}), "x"));
}

TEST(the_task_of_an_output_says_what_its_numbers_are) {
  CHECK(parse_sidecar(of_format_2({"depth"}), "x").quantity == DPT_INVERSE_DEPTH);
  CHECK(parse_sidecar(of_format_2({"relative-depth"}), "x").quantity == DPT_RELATIVE_DEPTH);
  Json json = Json::parse(of_format_2({"metric-depth"}));
  json["model"]["png_scale"] = 1000.0;
  const Sidecar metres = parse_sidecar(json.dump(), "x");
  CHECK(metres.quantity == DPT_METRES && metres.metric && metres.png_scale == 1000.0);
  json["outputs"][0]["task"] = "canonical-depth";  // not metres yet: no PNG of metres
  CHECK_FAILS(DPT_BAD_FILE, "canonical_focal", parse_sidecar(json.dump(), "x"));
  json["model"]["canonical_focal"] = 300.0;
  const Sidecar canonical = parse_sidecar(json.dump(), "x");
  CHECK(!canonical.metric && canonical.task == DPT_DEPTH && canonical.png_scale == 0);
  CHECK(canonical.quantity == DPT_CANONICAL_DEPTH);
  CHECK(canonical.canonical_png_scale == 1000.0 && canonical.canonical_focal == 300.0);
}

TEST(the_rule_of_the_sky_is_read_and_checked) {
  Json json = Json::parse(of_format_2({"relative-depth", "sky"}));
  CHECK(!parse_sidecar(json.dump(), "x").sky);
  json["model"]["sky"] = {{"threshold", 0.3}, {"quantile", 0.99}, {"pixels", 10}};
  const Sidecar sidecar = parse_sidecar(json.dump(), "x");
  CHECK(sidecar.sky && sidecar.sky->threshold == 0.3 && sidecar.sky->quantile == 0.99 && sidecar.sky->pixels == 10);
  CHECK(sidecar.outputs[1].sky());
  const auto refused = [&json](const char* key, const Json& value) {
    Json wrong = json;
    wrong["model"]["sky"][key] = value;
    CHECK_FAILS(DPT_BAD_FILE, key, parse_sidecar(wrong.dump(), "x"));
  };
  refused("quantile", 1.5);
  refused("quantile", -0.1);
  refused("pixels", -1);
  refused("threshold", "high");
}

TEST(a_damaged_sidecar_is_refused) {
  CHECK_FAILS(DPT_BAD_FILE, "not JSON", parse_sidecar("", "x"));
  CHECK_FAILS(DPT_BAD_FILE, "not JSON", parse_sidecar("{\"format\": 1", "x"));
  CHECK_FAILS(DPT_BAD_FILE, "not JSON", parse_sidecar(std::string(100000, '['), "x"));
  CHECK_FAILS(DPT_BAD_FILE, "not an object", parse_sidecar("[]", "x"));
  check_refused([](Json& json) { json["format"] = 3; }, "format");
  check_refused([](Json& json) { json["format"] = "1"; }, "format");
  check_refused([](Json& json) { json.erase("model"); }, "model is missing");
  check_refused([](Json& json) { json["model"] = 5; }, "model is not an object");
  check_refused([](Json& json) { json["model"]["stride"] = 0; }, "model.stride");
  check_refused([](Json& json) { json["model"]["stride"] = 32.5; }, "model.stride");
  check_refused([](Json& json) { json["model"]["stride"] = 18446744073709551615u; }, "model.stride");
  check_refused([](Json& json) { json["model"]["task"] = "poetry"; }, "'poetry'");
  check_refused([](Json& json) { json["model"]["task"] = "segmentation"; }, "no classes");
  check_refused([](Json& json) { json["image"]["std"] = {0.5, 0.0, 0.5}; }, "zero");
  check_refused([](Json& json) { json["image"]["mean"] = {0.5, 0.5}; }, "image.mean");
  check_refused([](Json& json) { json["image"]["mean"][0] = "0.5"; }, "image.mean");
  check_refused([](Json& json) { json["image"]["height"] = 1 << 20; }, "image.height");
  check_refused([](Json& json) { json["image"]["keep_aspect"] = 1; }, "keep_aspect");
  check_refused([](Json& json) { json["inputs"] = Json::array(); }, "inputs");
  check_refused([](Json& json) { json["shapes"]["static"] = {64}; }, "static");
  for (const char* name : {"", "..", ".", "../x.onnx", "/etc/passwd", "a\\b", "c:x"}) {
    check_refused([name](Json& json) { json["payloads"][0]["name"] = name; }, "next to the sidecar");
  }
}

TEST(an_artefact_is_whole_or_refused) {
  const scratch::Folder folder;
  const std::string path = folder.artefact("weights");
  CHECK(open_artifact(path, false).payloads.size() == 1);
  CHECK_FAILS(DPT_BAD_FILE, "cannot read", open_artifact(folder.path("absent.onnx"), false));
  CHECK_FAILS(DPT_BAD_FILE, "not a regular file", open_artifact(folder.path("."), false));

  mkfifo(folder.path("pipe").c_str(), 0600);
  CHECK_FAILS(DPT_BAD_FILE, "not a regular file", open_artifact(folder.path("pipe"), false));  // and does not wait

  write_file(path, "weighty");
  CHECK_FAILS(DPT_BAD_FILE, "does not match its sidecar", open_artifact(path, false));
  CHECK(open_artifact(path, true).payloads.size() == 1);  // as asked: sizes only
  write_file(path, "weigh");
  CHECK_FAILS(DPT_BAD_FILE, "5 bytes, its sidecar says 7", open_artifact(path, true));

  folder.artefact("weights");
  std::rename((path + ".json").c_str(), folder.path("other.json").c_str());
  CHECK_FAILS(DPT_BAD_FILE, ".onnx.json", open_artifact(path, false));
  write_file(folder.path("other"), "weights");
  CHECK_FAILS(DPT_BAD_FILE, "does not list other", open_artifact(folder.path("other"), false));
}

TEST(external_data_must_be_listed) {
  const std::string entry = field(1, "location") + field(2, "other.bin");
  const std::string tensor = field(13, field(1, "offset") + field(2, "0")) + field(13, entry);
  const std::string graphs[] = {
      field(7, field(5, tensor)),                                       // a weight
      field(7, field(1, field(5, field(6, field(5, tensor))))),         // a weight of a graph in an attribute
      field(7, field(15, field(1, tensor))),                            // a sparse weight
      field(25, field(7, field(5, field(5, tensor)))),                  // a constant of a function
      "\x08\x0a" + std::string("\x15 1234") + field(7, field(5, tensor))  // behind fields of fixed length
  };
  for (const std::string& graph : graphs) {
    const scratch::Folder folder;
    const std::string path = folder.artefact(graph);
    CHECK(external_files(path) == std::vector<std::string>{"other.bin"});
    CHECK_FAILS(DPT_BAD_FILE, "does not list", open_artifact(path, false));
    CHECK_FAILS(DPT_BAD_FILE, "does not list", open_artifact(path, true));
  }
  const scratch::Folder folder;
  write_file(folder.path("other.bin"), "data");
  const std::string path = folder.artefact(graphs[0], [](Json& sidecar) {
    sidecar["payloads"].push_back({{"name", "other.bin"}, {"sha256", digest_of("data", 4)}, {"size_bytes", 4}});
  });
  CHECK(open_artifact(path, false).payloads.size() == 2);
}

TEST(a_damaged_graph_names_no_files) {
  const std::string graph = field(7, field(5, field(13, field(1, "location") + field(2, "other.bin"))));
  for (std::size_t size = 0; size < graph.size(); ++size) {
    const scratch::Folder folder;
    CHECK(external_files(folder.artefact(graph.substr(0, size))).empty());
  }
  const scratch::Folder folder;
  CHECK(external_files(folder.artefact(std::string(20, '\xff'))).empty());  // a number without an end
}

TEST(ppm_and_pgm_are_read) {
  const Picture colour = parse_pnm("P6\n# a comment\n2 1\n255\nabcdef", "x");
  CHECK((colour.size == Size{1, 2}) && colour.rgb[5] == 'f');
  CHECK(parse_pnm("P6\n2 1\n255\nabcdefP6\n1 1\n255\nabc", "x").rgb == colour.rgb);  // the first of two
  const Picture grey = parse_pnm("P5 1 2 255\nab", "x");
  CHECK((grey.size == Size{2, 1}) && grey.rgb == std::vector<std::uint8_t>({'a', 'a', 'a', 'b', 'b', 'b'}));
}

TEST(a_damaged_image_is_refused) {
  for (const char* bytes : {"", "P", "P3\n1 1\n255\n1 2 3", "P6", "P6\n2 1\n255\nabcde", "P6\n0 1\n255\n",
                            "P6\n-2 1\n255\nabcdef", "P6\n2 1\n65535\nabcdef", "P6\n99999999999 1\n255\nabcdef",
                            "P6\n65536 65536\n255\nabc", "P6\n2 1\n255abcdef", "P6\n# never ends", "\x89PNG\r\n"}) {
    CHECK_FAILS(DPT_BAD_FILE, "no image that can be read", parse_pnm(bytes, "x"));
  }
}

TEST(a_file_that_cannot_be_written_leaves_nothing) {
  CHECK_FAILS(DPT_RESOURCE, "cannot write", write_file("/nonexistent/x.pfm", "x"));
  const scratch::Folder folder;
  mkdir(folder.path("taken").c_str(), 0700);
  CHECK_FAILS(DPT_RESOURCE, "cannot write", write_file(folder.path("taken"), "x"));
  CHECK(folder.entries() == 1);
  CHECK_FAILS(DPT_USAGE, "too long", write_file(folder.path(std::string(300, 'n').c_str()), "x"));
  CHECK(folder.entries() == 1);
}

TEST(a_link_is_replaced_and_permissions_are_the_usual_ones) {
  const scratch::Folder folder;
  const mode_t before = umask(022);
  write_file(folder.path("new"), "x");
  umask(before);
  struct stat found {};
  CHECK(stat(folder.path("new").c_str(), &found) == 0 && (found.st_mode & 0777) == 0644);
  symlink(folder.path("new").c_str(), folder.path("link").c_str());
  write_file(folder.path("link"), "y");  // the link is replaced, not followed
  CHECK(read_file(folder.path("new"), 9) == "x" && read_file(folder.path("link"), 9) == "y");
  CHECK(folder.entries() == 2);
}

TEST(labels_that_no_palette_has_are_refused) {
  const std::uint16_t labels[] = {1, 8};
  CHECK_FAILS(DPT_USAGE, "do not fit a palette", palette_png_of(labels, {1, 2}, 7));
  CHECK_FAILS(DPT_USAGE, "do not fit a palette", palette_png_of(labels, {1, 2}, 256));
  CHECK(palette_png_of(labels, {1, 2}, 8).size() > 60);
  CHECK(palette(150).size() == 151 * 3 && palette(7).size() == 8 * 3);
}

TEST_MAIN()
