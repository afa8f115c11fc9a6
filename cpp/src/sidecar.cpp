#include "sidecar.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "error.hpp"
#include "external.hpp"
#include "files.hpp"
#include "sha256.hpp"

namespace dpt::core {
namespace {

using Json = nlohmann::json;

constexpr std::int64_t kFormat = 2, kOldestFormat = 1;
constexpr std::uint64_t kMaxBytes = 1 << 24;  // a real sidecar has a few kilobytes
constexpr std::int64_t kMaxEngineBytes = std::int64_t{1} << 50;

// One JSON object of a sidecar; errors name the wrong value.
class Reader {
 public:
  Reader(const Json& object, std::string where, std::string name)
      : object_(object), where_(std::move(where)), name_(std::move(name)) {
    if (!object.is_object()) fail((name_.empty() ? "it" : name_) + " is not an object");
  }

  const Json& at(const char* key) const {
    const auto found = object_.find(key);
    if (found == object_.end()) fail(path(key) + " is missing");
    return *found;
  }
  Reader object(const char* key) const { return {at(key), where_, path(key)}; }
  bool is_null(const char* key) const { return at(key).is_null(); }
  bool has(const char* key) const { return object_.contains(key); }

  std::string text(const char* key) const {
    if (!at(key).is_string()) fail(path(key) + " is not a string");
    return at(key).get<std::string>();
  }
  bool flag(const char* key) const {
    if (!at(key).is_boolean()) fail(path(key) + " is not true or false");
    return at(key).get<bool>();
  }
  std::int64_t integer(const char* key, std::int64_t low, std::int64_t high) const {
    return whole(at(key), path(key), low, high);
  }
  double number(const char* key) const { return real(at(key), path(key)); }

  const Json& list(const char* key, std::size_t least, std::size_t most) const {
    const Json& found = at(key);
    if (!found.is_array() || found.size() < least || found.size() > most) {
      fail(path(key) + " is not a list of " + std::to_string(least) + ".." + std::to_string(most) + " entries");
    }
    return found;
  }
  std::array<double, 3> triple(const char* key) const {
    const Json& found = list(key, 3, 3);
    return {real(found[0], path(key)), real(found[1], path(key)), real(found[2], path(key))};
  }
  Size size(const char* key) const {
    const Json& found = list(key, 2, 2);
    return {static_cast<int>(whole(found[0], path(key), 1, kMaxSide)),
            static_cast<int>(whole(found[1], path(key), 1, kMaxSide))};
  }
  Reader only(const char* key) const { return {list(key, 1, 1)[0], where_, path(key)}; }

  template <typename T>
  T choice(const char* key, std::initializer_list<std::pair<const char*, T>> choices) const {
    const std::string found = text(key);
    for (const auto& [name, value] : choices) {
      if (found == name) return value;
    }
    fail(path(key) + " is '" + found + "', which this library does not know");
  }

  // One number of a list; `key` is the list's.
  std::int64_t whole(const Json& value, const char* key, std::int64_t low, std::int64_t high) const {
    return whole(value, path(key), low, high);
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw Failure(DPT_BAD_FILE, "sidecar " + where_ + " cannot be read: " + what, "export again, or update this library");
  }

 private:
  std::string path(const char* key) const { return name_.empty() ? key : name_ + "." + key; }

  std::int64_t whole(const Json& value, const std::string& name, std::int64_t low, std::int64_t high) const {
    const bool fits = value.is_number_unsigned() ? value.get<std::uint64_t>() <= static_cast<std::uint64_t>(INT64_MAX)
                                                 : value.is_number_integer();
    if (!fits || value.get<std::int64_t>() < low || value.get<std::int64_t>() > high) {
      fail(name + " is not an integer in " + std::to_string(low) + ".." + std::to_string(high));
    }
    return value.get<std::int64_t>();
  }
  double real(const Json& value, const std::string& name) const {
    if (!value.is_number() || !std::isfinite(value.get<double>())) fail(name + " is not a finite number");
    return value.get<double>();
  }

  const Json& object_;
  std::string where_, name_;
};

bool names_a_neighbour(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find_first_of(std::string("/\\:\0", 4)) == std::string::npos;
}

std::vector<Payload> payloads_of(const Reader& root, const std::string& where) {
  std::vector<Payload> found;
  for (const Json& entry : root.list("payloads", 1, 1024)) {
    const Reader reader(entry, where, "payloads");
    const Payload payload{reader.text("name"), reader.text("sha256"),
                          static_cast<std::uint64_t>(reader.integer("size_bytes", 0, INT64_MAX))};
    if (!names_a_neighbour(payload.name)) root.fail("payload '" + payload.name + "' is not a file next to the sidecar");
    found.push_back(payload);
  }
  return found;
}

ImageRule image_of(const Reader& reader) {
  ImageRule rule;
  rule.height = static_cast<int>(reader.integer("height", 1, kMaxSide));
  rule.width = static_cast<int>(reader.integer("width", 1, kMaxSide));
  rule.resize = reader.choice<Resize>(
      "resize", {{"minimal", Resize::minimal}, {"lower_bound", Resize::lower_bound}, {"upper_bound", Resize::upper_bound}});
  rule.mean = reader.triple("mean");
  rule.std = reader.triple("std");
  rule.keep_aspect = reader.flag("keep_aspect");
  if (reader.has("restore")) {  // absent from older sidecars
    rule.restore = reader.choice<Restore>("restore", {{"bicubic", Restore::bicubic},
                                                      {"bilinear", Restore::bilinear},
                                                      {"bilinear-corners", Restore::bilinear_corners}});
  }
  if (std::find(rule.std.begin(), rule.std.end(), 0.0) != rule.std.end()) reader.fail("image.std holds a zero");
  return rule;
}

void read_model(const Reader& model, Sidecar& sidecar) {
  sidecar.num_classes = static_cast<int>(model.integer("num_classes", 0, 65535));
  sidecar.stride = static_cast<int>(model.integer("stride", 1, 4096));
  sidecar.metric = !model.is_null("metric");
  if (sidecar.metric) {
    sidecar.png_scale = model.object("metric").number("png_scale");
  } else if (model.has("png_scale")) {
    sidecar.png_scale = model.number("png_scale");
  }
  // Absent from older sidecars.
  if (model.has("canonical_focal")) sidecar.canonical_focal = model.number("canonical_focal");
  if (model.has("sky") && !model.is_null("sky")) {
    const Reader sky = model.object("sky");
    sidecar.sky = SkyRule{sky.number("threshold"), sky.number("quantile"), sky.integer("pixels", 0, INT64_MAX)};
    if (sidecar.sky->quantile < 0 || sidecar.sky->quantile > 1) sky.fail("model.sky.quantile is not in 0..1");
  }
}

// What the numbers of a depth task are; none for other tasks.
std::optional<dpt_quantity> quantity_of(const std::string& task) {
  if (task == "depth") return DPT_INVERSE_DEPTH;
  if (task == "metric-depth") return DPT_METRES;
  if (task == "relative-depth") return DPT_RELATIVE_DEPTH;
  if (task == "canonical-depth") return DPT_CANONICAL_DEPTH;
  return std::nullopt;
}

// The only output of a sidecar of format 1, whose task follows from the model and from `output_kind`.
Output output_of_format_1(const Reader& root, bool metric) {
  const bool labels = root.choice<bool>("output_kind", {{"scores", false}, {"labels", true}});
  const bool depth = root.object("model").choice<bool>("task", {{"depth", true}, {"segmentation", false}});
  const Reader output = root.only("outputs");
  const char* task = depth ? (metric ? "metric-depth" : "depth") : labels ? "labels" : "scores";
  return {output.text("name"), output.text("dtype"), task, quantity_of(task)};
}

void read_outputs(const Reader& root, const std::string& where, Sidecar& sidecar) {
  if (root.integer("format", kOldestFormat, kFormat) == 1) {
    sidecar.outputs.push_back(output_of_format_1(root, sidecar.metric));
  } else {
    for (const Json& entry : root.list("outputs", 1, 64)) {
      const Reader output(entry, where, "outputs");
      const std::string task = output.text("task");
      sidecar.outputs.push_back({output.text("name"), output.text("dtype"), task, quantity_of(task)});
    }
  }
  const Output& first = sidecar.outputs.front();
  const bool depth = first.quantity.has_value();
  sidecar.quantity = first.quantity.value_or(DPT_INVERSE_DEPTH);
  const auto metric = [](const Output& output) { return output.quantity == DPT_METRES; };
  sidecar.metric = std::any_of(sidecar.outputs.begin(), sidecar.outputs.end(), metric);
  if (!sidecar.metric) sidecar.canonical_png_scale = std::exchange(sidecar.png_scale, 0);
  const auto canonical = [](const Output& output) { return output.quantity == DPT_CANONICAL_DEPTH; };
  if (std::any_of(sidecar.outputs.begin(), sidecar.outputs.end(), canonical) && sidecar.canonical_focal <= 0) {
    root.fail("canonical depth without a model.canonical_focal");
  }
  sidecar.labels_output = first.labels();
  if (!depth && !sidecar.labels_output && first.task != "scores") {
    root.fail("output '" + first.name + "' has task '" + first.task + "', which this program cannot predict");
  }
  sidecar.task = depth ? DPT_DEPTH : DPT_SEGMENTATION;
  const auto of_classes = [](const Output& output) { return output.of_classes(); };
  if (sidecar.num_classes < 1 && std::any_of(sidecar.outputs.begin(), sidecar.outputs.end(), of_classes)) {
    root.fail("a segmentation model of no classes");
  }
}

Profile profile_of(const Reader& reader) {
  Profile profile;
  const Json &low = reader.list("low", 3, 3), &high = reader.list("high", 3, 3);
  for (std::size_t axis = 0; axis < 3; ++axis) {
    profile.low[axis] = static_cast<int>(reader.whole(low[axis], "low", 1, kMaxSide));
    profile.high[axis] = static_cast<int>(reader.whole(high[axis], "high", profile.low[axis], kMaxSide));
  }
  return profile;
}

EngineRecord engine_of(const Reader& engine, const std::string& where) {
  EngineRecord record;
  record.library = engine.text("library");
  record.version = engine.text("version");
  if (!engine.is_null("device")) {
    const Reader device = engine.object("device");
    record.capability = device.text("capability");
    record.device =
        device.text("name") + " (compute capability " + record.capability + ", driver " + device.text("driver") + ")";
  }
  for (const Json& entry : engine.list("profiles", 1, 1024)) {
    record.profiles.push_back(profile_of({entry, where, "engine.profiles"}));
  }
  const Reader options = engine.object("options");
  record.version_compatible = options.flag("version_compatible");
  record.hardware_compatible = options.flag("hardware_compatible");
  record.stripped = options.flag("strip_weights");
  for (const Json& entry : options.list("compute_capabilities", 0, 64)) {
    if (!entry.is_string()) options.fail("engine.options.compute_capabilities has an entry that is not text");
    record.targets.push_back(entry.get<std::string>());
  }
  record.weight_bytes = static_cast<std::uint64_t>(engine.integer("weight_bytes", 0, kMaxEngineBytes));
  record.activation_bytes = static_cast<std::uint64_t>(engine.integer("activation_bytes", 0, kMaxEngineBytes));
  return record;
}

void check_payload(const std::string& path, const Payload& payload, bool skip_hashes) {
  const std::uint64_t size = InputFile(path).size();
  const char* hint = "the file was cut, changed or swapped: copy it again, or export again";
  if (size != payload.size_bytes) {
    throw Failure(DPT_BAD_FILE, path + " has " + std::to_string(size) + " bytes, its sidecar says " +
                                    std::to_string(payload.size_bytes), hint);
  }
  if (skip_hashes) return;
  const std::string found = sha256_of(path);
  if (found != payload.sha256) {
    throw Failure(DPT_BAD_FILE, path + " does not match its sidecar (sha256 " + found.substr(0, 12) + ", expected " +
                                    payload.sha256.substr(0, 12) + ")", hint);
  }
}

// Every file that ONNX Runtime will read has to be one whose hash was checked.
void check_external(const std::string& path, const std::vector<Payload>& payloads) {
  for (const std::string& name : external_files(path)) {
    const auto is_listed = [&name](const Payload& payload) { return payload.name == name; };
    if (std::none_of(payloads.begin(), payloads.end(), is_listed)) {
      throw Failure(DPT_BAD_FILE, path + " names external data " + name.substr(0, 200) + ", which its sidecar does not list",
                    "do not trust it, or export again");
    }
  }
}

}  // namespace

Sidecar parse_sidecar(const std::string& text, const std::string& where) {
  const Json data = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (data.is_discarded()) {
    throw Failure(DPT_BAD_FILE, "sidecar " + where + " cannot be read: it is not JSON", "export again");
  }
  const Reader root(data, where, "");
  root.integer("format", kOldestFormat, kFormat);
  Sidecar sidecar;
  sidecar.kind = root.text("kind");
  sidecar.precision = root.text("precision");
  sidecar.payloads = payloads_of(root, where);
  read_model(root.object("model"), sidecar);
  sidecar.image = image_of(root.object("image"));
  sidecar.uint8_input = root.choice<bool>("input_kind", {{"float32", false}, {"uint8", true}});
  sidecar.input_name = root.only("inputs").text("name");
  read_outputs(root, where, sidecar);
  const Reader shapes = root.object("shapes");
  if (!shapes.is_null("static")) sidecar.static_size = shapes.size("static");
  if (sidecar.kind == "plan") sidecar.engine = engine_of(root.object("engine"), where);
  return sidecar;
}

Sidecar open_artifact(const std::string& path, bool skip_hashes) {
  InputFile model(path);  // before its sidecar, so that a wrong path is reported as such
  const std::string where = path + ".json";
  Sidecar sidecar = parse_sidecar(read_file(where, kMaxBytes), where);
  const std::size_t slash = path.find_last_of('/');
  const std::string folder = slash == std::string::npos ? "" : path.substr(0, slash + 1);
  const std::string name = path.substr(folder.size());
  bool listed = false;
  for (const Payload& payload : sidecar.payloads) {
    check_payload(folder + payload.name, payload, skip_hashes);
    listed = listed || payload.name == name;
  }
  if (!listed) {
    throw Failure(DPT_BAD_FILE, "sidecar " + where + " does not list " + name, "it belongs to another file: export again");
  }
  if (sidecar.kind == "onnx") check_external(path, sidecar.payloads);
  return sidecar;
}

}  // namespace dpt::core
