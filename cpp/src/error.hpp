// The one exception of the library, with the status that the C API returns for it.
#pragma once

#include <stdexcept>
#include <string>

#include "dpt/dpt.h"

namespace dpt::core {

// What was found and what was expected; `hint` says what to do.
class Failure : public std::runtime_error {
 public:
  Failure(dpt_status status, const std::string& message, std::string hint)
      : std::runtime_error(message), status_(status), hint_(std::move(hint)) {}

  dpt_status status() const { return status_; }
  const std::string& hint() const { return hint_; }

 private:
  dpt_status status_;
  std::string hint_;
};

}  // namespace dpt::core
