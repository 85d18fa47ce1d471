// The oracle: runs cases on the processor itself, in a forked child that is started again when it dies or hangs.
//
// A case is loaded by returning from a signal handler into it, and ends in another signal: the kernel's signal frame
// holds the whole image both ways, so no stub code has to load or save registers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "image.h"
#include "values.h"

namespace veneer::fuzz {

/// One case and its outcome in memory shared with the child.
struct OracleSlot {
  Case input;
  Outcome output;
};

struct OracleShared;

class Oracle {
 public:
  static constexpr unsigned batch = 64;

  /// `pool` must not change afterwards: the child has its own copy.
  Oracle(const PatternPool& pool, std::uint64_t components) : pool_(pool), components_(components) {}
  ~Oracle();
  Oracle(const Oracle&) = delete;
  Oracle& operator=(const Oracle&) = delete;
  Result<void> create();

  OracleSlot& slot(unsigned i);
  /// Begins to run slots [0, count); returns at once.
  Result<void> start(unsigned count);
  /// Waits until all are done, however many children that takes.
  Result<void> wait();

 private:
  Result<void> start_child();
  void reap(bool kill_it);

  const PatternPool& pool_;
  std::uint64_t components_;
  OracleShared* shared_ = nullptr;
  int child_ = -1;
  unsigned count_ = 0;
};

}  // namespace veneer::fuzz
