// Counters that survive the worker's death: they live in memory shared with the supervisor.
#pragma once

#include <Zydis/Zydis.h>

#include <array>
#include <atomic>
#include <cstdint>

#include "base/result.h"
#include "layout.h"

namespace veneer::fuzz {

struct Statistics {
  std::uint64_t next_case;     ///< first case that no worker has begun
  std::uint64_t running_case;  ///< what to blame when the worker dies
  std::uint64_t snippets, instructions;
  std::uint64_t differing;  ///< snippets
  std::uint64_t engine_crashes;
  std::uint64_t lost;          ///< snippets that hung or killed the native child
  std::uint64_t unsteady;      ///< snippets that the processor itself ran otherwise the second time
  std::uint64_t undetermined;  ///< runs with a difference that a processor is free to make (mask.h, XSAVE images)
  std::uint64_t faults;        ///< snippets that ended in a fault before their end
  std::uint64_t reports;
  std::array<std::array<std::uint32_t, ZYDIS_MNEMONIC_MAX_VALUE + 1>, code_widths> rows;  ///< compared, by width

  /// How often each kind of difference was seen, by hash of its signature.
  static constexpr unsigned max_signatures = 4096;
  std::array<std::uint64_t, max_signatures> signatures;
  std::uint32_t signature_count;

  /// True the first time.
  bool new_signature(std::uint64_t hash) {
    for (std::uint32_t i = 0; i < signature_count; i++)
      if (signatures[i] == hash) return false;
    if (signature_count < max_signatures) signatures[signature_count++] = hash;
    return true;
  }
};

/// Zeroed, in shared memory; never unmapped.
Result<Statistics*> make_statistics();

}  // namespace veneer::fuzz
