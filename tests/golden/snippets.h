// The guest code whose translation is kept as a listing.
#pragma once

#include <cstdint>
#include <vector>

#include "guest_code.h"

namespace veneer::golden {

/// Where a snippet runs, as far as the translator cares.
enum class Where : std::uint8_t { User64, Kernel64, User32 };

struct Snippet {
  const char* name;  ///< of its file
  const char* about;
  Where where;
  bool avx512;  ///< only on hosts that have it
  engine_tests::Code code;
};

/// Each is translated from its first byte to the end of the block.
const std::vector<Snippet>& snippets();

}  // namespace veneer::golden
