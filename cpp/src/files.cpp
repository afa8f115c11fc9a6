#include "files.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <random>

#include "error.hpp"

namespace dpt::core {
namespace {

std::string reason() { return std::strerror(errno); }

// A path that no file can have is the caller's mistake; anything else is the machine's.
[[noreturn]] void fail_to_write(const std::string& path, const char* hint) {
  const bool unusable = errno == ENAMETOOLONG || errno == ELOOP;
  throw Failure(unusable ? DPT_USAGE : DPT_RESOURCE, "cannot write " + path + ": " + reason(),
                unusable ? "name another file" : hint);
}

struct Partial {
  std::string path;
  int descriptor;
};

// Creates a file next to the target under a name that nobody can foresee, and never through a link.
Partial make_partial(const std::string& path) {
  constexpr int kAttempts = 16;
  constexpr char kDigits[] = "0123456789abcdef";
  std::random_device random;
  const std::size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "" : path.substr(0, slash + 1);
  for (int attempt = 0; attempt < kAttempts; ++attempt) {
    std::string name = folder + ".tmp-";
    for (int digit = 0; digit < 16; ++digit) name += kDigits[random() % 16];
    const int descriptor = open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (descriptor >= 0) return {name, descriptor};
    if (errno != EEXIST) break;
  }
  fail_to_write(path, "check its folder");
}

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

void InputFile::seek(std::uint64_t position) {
  if (fseeko(file_.get(), static_cast<off_t>(position), SEEK_SET) != 0) {
    throw Failure(DPT_BAD_FILE, "cannot read " + path_ + ": " + reason(), "check the disk");
  }
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
  const Partial made = make_partial(path);
  const std::string& partial = made.path;
  std::FILE* file = fdopen(made.descriptor, "wb");
  if (file == nullptr) {
    close(made.descriptor);
    std::remove(partial.c_str());
    throw Failure(DPT_RESOURCE, "cannot write " + path + ": out of memory", "free some memory");
  }
  bool fine = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  fine = std::fclose(file) == 0 && fine;
  fine = fine && std::rename(partial.c_str(), path.c_str()) == 0;
  if (fine) return;
  const int error = errno;
  std::remove(partial.c_str());
  errno = error;
  fail_to_write(path, "is the disk full?");
}

}  // namespace dpt::core
