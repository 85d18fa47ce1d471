// Shadow mode: each block is run twice, as a long block and as single instructions, and the results compared
// (docs/shadow.md).
//
// A check has two parts. In the trial the long block runs; what it did to guest memory and to the vCPU is kept and then
// undone. Then the same instructions run one by one, and this counts: devices see accesses from here only. Where both
// should have arrived, they are compared. Owned and used by one vCPU thread.
#pragma once

#include <cstdint>
#include <memory>

#include "base/result.h"
#include "base/units.h"
#include "cpu/bt/block.h"
#include "cpu/bt/x87_pointers.h"
#include "cpu/state.h"

namespace veneer::cpu::bt {

/// The pages that one check wrote: as they were before, and as the trial left them.
class ShadowPages {
 public:
  ShadowPages() = default;
  ~ShadowPages();
  ShadowPages(const ShadowPages&) = delete;
  ShadowPages& operator=(const ShadowPages&) = delete;

  Result<void> create();

  /// Forgets all pages.
  void begin();
  /// Keeps the page as it is now, unless it is known. False when there is no room left: it must not be written then.
  /// Register-only.
  bool before_write(HostPtr page);
  /// The trial is over: keeps what it wrote and takes it back.
  void take_back();
  /// The first byte in which memory differs from what the trial left; null when there is none.
  const std::uint8_t* first_difference() const;
  std::uint8_t trial_byte(const std::uint8_t* place) const;

 private:
  static constexpr unsigned capacity = 16384;  // 64 MiB in one block
  static constexpr unsigned buckets = 4 * capacity;
  struct Page {
    HostPtr host;
    unsigned bucket;
  };

  unsigned bucket_of(HostPtr page) const;

  unsigned count_ = 0, in_trial_ = 0;
  Page* pages_ = nullptr;
  std::uint32_t* index_ = nullptr;  ///< hash table of page numbers, from 1
  std::uint8_t* before_ = nullptr;  ///< contents before the check
  std::uint8_t* after_ = nullptr;   ///< contents behind the trial
};

struct Shadow {
  enum class Phase : std::uint8_t { Idle, Trial, Follow };

  /// What must be restored behind the trial, besides memory.
  struct Kept {
    ArchState state;         ///< as everybody sees it
    ArchState own;           ///< BtVcpu::s, whose x87 pointers are the host's
    X87Pointers x87_loaded;  ///< what belongs to these
    bool shutdown = false;
  };
  struct Counters {
    std::uint64_t checked = 0, instructions = 0, differences = 0, devices = 0, given_up = 0;
  };

  unsigned checks_wanted = 0;  ///< of each block; 0: every time it runs
  Phase phase = Phase::Idle;
  bool aborted = false;    ///< the trial came to a device: it does not count
  bool skip_next = false;  ///< the block that comes next is to be run once, unchecked
  Block* next = nullptr;   ///< to be entered now
  Block* block = nullptr;  ///< under check; it may be dead by now
  ShadowPages pages;
  Kept start, trial;
  LinkSite* trial_link = nullptr;  ///< the trial left for the block's ungrouped variant
  std::uint64_t trial_link_flushes = 0;
  ExitKind trial_exit = ExitKind::Lookup;
  bool may_stay = false;  ///< the trial may have left at its first instruction
  std::uint64_t events_before = 0;
  std::uint64_t line[64] = {};  ///< RIP of each instruction of the block
  unsigned line_length = 0, steps = 0;
  std::uint64_t linear = 0;         ///< where the block starts
  std::uint64_t cache_flushes = 0;  ///< of the code cache, when the check began: later ones take the block away
  Counters counters;

  bool busy() const { return phase != Phase::Idle; }
  bool following() const { return phase == Phase::Follow; }
  /// True when this block was checked as often as wanted: it may be linked and run at full speed.
  bool done_with(const Block& b) const { return b.once_only || (checks_wanted && b.shadow_checks >= checks_wanted); }
};

}  // namespace veneer::cpu::bt
