#include "files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "error.hpp"

namespace dpt::core {
namespace {

std::string reason() { return std::strerror(errno); }

}  // namespace

// A pipe is refused below, and not waited for here.
InputFile::InputFile(const std::string& path) : path_(path) {
  const int descriptor = open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
  if (descriptor >= 0) file_.reset(fdopen(descriptor, "rb"));
  if (!file_ && descriptor >= 0) close(descriptor);
  if (!file_) throw Failure(DPT_BAD_FILE, "cannot read " + path + ": " + reason(), "check the path and its permissions");
  struct stat found {};
  if (fstat(fileno(file_.get()), &found) != 0 || !S_ISREG(found.st_mode)) {
    throw Failure(DPT_BAD_FILE, path + " is not a regular file", "name one file");
  }
  size_ = static_cast<std::uint64_t>(found.st_size);
}

std::size_t InputFile::read(void* data, std::size_t size) {
  const std::size_t got = std::fread(data, 1, size, file_.get());
  if (got < size && std::ferror(file_.get())) {
    throw Failure(DPT_BAD_FILE, "cannot read " + path_ + ": " + reason(), "check the disk");
  }
  return got;
}

std::string read_file(const std::string& path, std::uint64_t limit) {
  InputFile file(path);
  if (file.size() > limit) {
    throw Failure(DPT_BAD_FILE,
                  path + " has " + std::to_string(file.size()) + " bytes; expected at most " + std::to_string(limit),
                  "it is not a file of this kind");
  }
  std::string bytes(file.size(), '\0');
  bytes.resize(file.read(bytes.data(), bytes.size()));
  return bytes;
}

void write_file(const std::string& path, const std::string& bytes) {
  static std::atomic<unsigned> serial{0};
  const std::string partial = path + "." + std::to_string(getpid()) + "-" + std::to_string(++serial) + ".part";
  std::FILE* file = std::fopen(partial.c_str(), "wb");
  if (file == nullptr) throw Failure(DPT_RESOURCE, "cannot write " + path + ": " + reason(), "check its folder");
  bool fine = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  fine = std::fclose(file) == 0 && fine;
  fine = fine && std::rename(partial.c_str(), path.c_str()) == 0;
  if (fine) return;
  const std::string why = reason();
  std::remove(partial.c_str());
  throw Failure(DPT_RESOURCE, "cannot write " + path + ": " + why, "is the disk full?");
}

}  // namespace dpt::core
