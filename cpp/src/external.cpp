// The twin of dpt_deploy/artifact/external.py: a walk over the messages of onnx.proto that can hold a tensor.
#include "external.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <utility>

#include "files.hpp"

namespace dpt::core {
namespace {

enum class Kind { model, training, function, graph, node, attribute, sparse, tensor, entry };

// Fields that lead to a tensor, by number.
const std::map<std::pair<Kind, std::uint64_t>, Kind> kFields = {
    {{Kind::model, 7}, Kind::graph},         {{Kind::model, 20}, Kind::training},
    {{Kind::model, 25}, Kind::function},     {{Kind::training, 1}, Kind::graph},
    {{Kind::training, 2}, Kind::graph},      {{Kind::function, 7}, Kind::node},
    {{Kind::function, 11}, Kind::attribute}, {{Kind::graph, 1}, Kind::node},
    {{Kind::graph, 5}, Kind::tensor},        {{Kind::graph, 15}, Kind::sparse},
    {{Kind::node, 5}, Kind::attribute},      {{Kind::attribute, 5}, Kind::tensor},
    {{Kind::attribute, 6}, Kind::graph},     {{Kind::attribute, 10}, Kind::tensor},
    {{Kind::attribute, 11}, Kind::graph},    {{Kind::attribute, 22}, Kind::sparse},
    {{Kind::attribute, 23}, Kind::sparse},   {{Kind::sparse, 1}, Kind::tensor},
    {{Kind::sparse, 2}, Kind::tensor},       {{Kind::tensor, 13}, Kind::entry}};
constexpr std::uint64_t kMaxText = 1 << 16;  // of a key or a value; a longer one is no file name
constexpr int kLongestVarint = 10;

struct Part {
  Kind kind;
  std::uint64_t start, stop;
};

struct Field {
  std::uint64_t number, start, stop;
};

struct Damage {};  // the bytes are no protocol buffer

class Walk {
 public:
  explicit Walk(const std::string& path) : file_(path) {}

  std::vector<std::string> locations() {
    std::vector<std::string> found;
    std::vector<Part> waiting{{Kind::model, 0, file_.size()}};
    try {
      while (!waiting.empty()) {
        const Part part = waiting.back();
        waiting.pop_back();
        for (std::uint64_t at = part.start; at < part.stop;) {
          const auto field = next(at, part.stop);
          if (!field) continue;
          const auto inner = kFields.find({part.kind, field->number});
          if (inner == kFields.end()) continue;
          if (inner->second == Kind::entry) {
            add_location(*field, found);
          } else {
            waiting.push_back({inner->second, field->start, field->stop});
          }
        }
      }
    } catch (const Damage&) {
    }
    return found;
  }

 private:
  // A field with a length, or nothing for one that is stepped over.
  std::optional<Field> next(std::uint64_t& at, std::uint64_t stop) {
    const std::uint64_t key = varint(at, stop);
    switch (key & 7) {
      case 0: varint(at, stop); return std::nullopt;
      case 1: at += 8; return std::nullopt;
      case 2: {
        const std::uint64_t size = varint(at, stop);
        if (size > stop - at) throw Damage{};
        const Field field{key >> 3, at, at + size};
        at += size;
        return field;
      }
      case 3:
      case 4: return std::nullopt;  // the marks of a group; its fields are read as fields of the message
      case 5: at += 4; return std::nullopt;
      default: throw Damage{};
    }
  }

  void add_location(const Field& entry, std::vector<std::string>& found) {
    bool is_location = false;
    std::vector<std::string> values;
    for (std::uint64_t at = entry.start; at < entry.stop;) {
      const auto field = next(at, entry.stop);
      if (!field || (field->number != 1 && field->number != 2)) continue;
      const std::string text = text_of(*field);
      if (field->number == 1) is_location = is_location || text == "location";
      if (field->number == 2) values.push_back(text);
    }
    if (is_location) found.insert(found.end(), values.begin(), values.end());
  }

  std::string text_of(const Field& field) {
    std::string text(std::min(field.stop - field.start, kMaxText), '\0');
    read(field.start, text.data(), text.size());
    return text;
  }

  std::uint64_t varint(std::uint64_t& at, std::uint64_t stop) {
    std::uint64_t value = 0;
    for (int index = 0; index < kLongestVarint; ++index) {
      unsigned char byte = 0;
      if (at >= stop) throw Damage{};
      read(at++, &byte, 1);
      value |= static_cast<std::uint64_t>(byte & 0x7f) << (7 * index);
      if (byte < 0x80) return value;
    }
    throw Damage{};
  }

  // Seeks only where it must: a seek may drop what the stream has buffered.
  void read(std::uint64_t at, void* data, std::size_t size) {
    if (at != position_) file_.seek(at);
    if (file_.read(data, size) != size) throw Damage{};
    position_ = at + size;
  }

  InputFile file_;
  std::uint64_t position_ = 0;
};

}  // namespace

std::vector<std::string> external_files(const std::string& path) { return Walk(path).locations(); }

}  // namespace dpt::core
