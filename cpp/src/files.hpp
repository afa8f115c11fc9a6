// Files: read with a clear error, written completely or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

namespace dpt::core {

class InputFile {
 public:
  explicit InputFile(const std::string& path);            // throws Failure (bad file)
  std::size_t read(void* data, std::size_t size);         // 0 at the end; throws Failure when the disk fails
  void seek(std::uint64_t position);                      // from the start; throws Failure when the disk fails
  std::uint64_t size() const { return size_; }

 private:
  struct Close {
    void operator()(std::FILE* file) const { std::fclose(file); }
  };
  std::string path_;
  std::unique_ptr<std::FILE, Close> file_;
  std::uint64_t size_ = 0;
};

// Reads a whole file of at most `limit` bytes; throws Failure (bad file).
std::string read_file(const std::string& path, std::uint64_t limit);

// Writes next to the target, then moves the file over it; throws Failure (resource).
void write_file(const std::string& path, const std::string& bytes);

}  // namespace dpt::core
