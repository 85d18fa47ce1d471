// The translator: one guest block in, host code out.
#pragma once

#include "cpu/bt/block.h"
#include "cpu/bt/code_cache.h"
#include "cpu/bt/engine_impl.h"

namespace veneer::cpu::bt {

/// Where the code to translate is.
struct TranslateRequest {
  CodePageId page;
  const std::byte* bytes;  ///< the page
  CodePageId second_page;
  const std::byte* second_bytes;  ///< the page after it in guest-virtual space, or null when that cannot be fetched
  std::uint16_t offset;
  Mode mode;
};

/// A finished block, committed to the cache. Null when the instruction at the start reaches into the next page and
/// second_bytes is null (the caller then faults or asks again with it).
Block* translate(BtEngine& engine, const TranslateRequest& request);

}  // namespace veneer::cpu::bt
