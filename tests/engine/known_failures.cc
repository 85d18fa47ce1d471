// What engines are known to do wrong: these tests are skipped. The list may only shrink.
#include "engines.h"

namespace veneer::engine_tests {

namespace {

struct KnownFailure {
  std::string_view test;
  const char* reason;
};

constexpr KnownFailure failures[] = {
    {"Modes.SegmentLimitsAreChecked", "bt: limits of data segments are not checked in 16 and 32-bit code"},
};

}  // namespace

const char* known_failure(std::string_view test) {
  for (const KnownFailure& failure : failures)
    if (failure.test == test) return failure.reason;
  return nullptr;
}

}  // namespace veneer::engine_tests
