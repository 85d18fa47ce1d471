// What engines are known to do wrong: these tests are skipped. The list may only shrink.
#include <array>

#include "engines.h"

namespace veneer::engine_tests {

namespace {

struct KnownFailure {
  std::string_view test;
  const char* reason;
};

constexpr std::array<KnownFailure, 0> failures = {};

}  // namespace

const char* known_failure(std::string_view test) {
  for (const KnownFailure& failure : failures)
    if (failure.test == test) return failure.reason;
  return nullptr;
}

}  // namespace veneer::engine_tests
