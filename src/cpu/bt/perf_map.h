// The map that perf reads to give translated code names: /tmp/perf-PID.map.
//
// Format (linux/tools/perf/Documentation/jit-interface.txt): a line "START SIZE name" for each piece of code, numbers
// in hex without 0x. The format knows no time: code that was thrown away and replaced has two names.
#pragma once

#include <cstdint>
#include <cstdio>

#include "base/result.h"
#include "cpu/bt/block.h"

namespace veneer::cpu::bt {

class PerfMap {
 public:
  PerfMap() = default;
  ~PerfMap();
  PerfMap(const PerfMap&) = delete;
  PerfMap& operator=(const PerfMap&) = delete;

  /// Makes the file; one that is left from another process of this number is replaced.
  Result<void> create();
  bool active() const { return file_ != nullptr; }
  /// `address` is where the guest runs it now; a shared library's code keeps the name of its first place.
  void add(const Block& block, std::uint64_t address);

 private:
  std::FILE* file_ = nullptr;
};

}  // namespace veneer::cpu::bt
