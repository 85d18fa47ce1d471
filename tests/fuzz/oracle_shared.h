// What the oracle and its child share, and the child's entry point.
#pragma once

#include <atomic>
#include <cstdint>

#include "oracle.h"

namespace veneer::fuzz {

struct OracleShared {
  std::atomic<std::uint32_t> doorbell;  ///< the parent counts up when slots wait
  std::atomic<std::uint32_t> answered;  ///< the child sets it to the doorbell's value when they are done
  std::atomic<std::uint32_t> next;      ///< the case that runs now
  std::uint32_t count;
  OracleSlot slots[Oracle::batch];
};

/// Maps code and data, installs the handler, gives up what system calls it can, and serves until it is killed.
[[noreturn]] void oracle_child(OracleShared& shared, const PatternPool& pool, std::uint64_t components);

/// Futex on a word of shared memory. Waiting returns after the timeout at the latest.
void wait_while(std::atomic<std::uint32_t>& word, std::uint32_t value, std::uint64_t timeout_ms);
void wake(std::atomic<std::uint32_t>& word);

}  // namespace veneer::fuzz
