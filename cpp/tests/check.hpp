// Tests as functions: TEST(name) { CHECK(…); }. All of a program run, and each failure is reported with its line.
#pragma once

#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "error.hpp"

namespace check {

struct State {
  std::vector<std::pair<std::string, std::function<void()>>> tests;
  int failures = 0;
};
inline State& state() {
  static State one;
  return one;
}

struct Registered {
  Registered(const char* name, std::function<void()> body) { state().tests.emplace_back(name, std::move(body)); }
};

inline void report(bool fine, const char* what, const char* file, int line) {
  if (fine) return;
  ++state().failures;
  std::fprintf(stderr, "%s:%d: %s\n", file, line, what);
}

// The status with which `call` fails; DPT_INTERNAL if its message lacks `text`, DPT_OK if it does not fail.
template <typename Call>
dpt_status failure_of(const Call& call, const std::string& text = "") {
  try {
    call();
  } catch (const dpt::core::Failure& failure) {
    const bool fits = std::string(failure.what()).find(text) != std::string::npos && !failure.hint().empty();
    if (!fits) std::fprintf(stderr, "message: %s (%s)\n", failure.what(), failure.hint().c_str());
    return fits ? failure.status() : DPT_INTERNAL;
  }
  return DPT_OK;
}

inline int run_all() {
  for (const auto& [name, body] : state().tests) {
    const int before = state().failures;
    try {
      body();
    } catch (const std::exception& error) {
      ++state().failures;
      std::fprintf(stderr, "exception: %s\n", error.what());
    }
    std::printf("%s %s\n", state().failures == before ? "ok    " : "FAILED", name.c_str());
  }
  std::printf("%zu tests, %d failures\n", state().tests.size(), state().failures);
  return state().failures == 0 && !state().tests.empty() ? 0 : 1;
}

}  // namespace check

#define CHECK(condition) check::report(static_cast<bool>(condition), #condition, __FILE__, __LINE__)
#define CHECK_FAILS(status, text, ...) CHECK(check::failure_of([&] { __VA_ARGS__; }, text) == (status))
#define TEST(name)                                                         \
  static void name();                                                      \
  static const check::Registered registered_##name{#name, name};           \
  static void name()
#define TEST_MAIN() \
  int main() { return check::run_all(); }
