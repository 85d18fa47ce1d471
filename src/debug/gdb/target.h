// Target: what the gdb stub needs of a machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "cpu/state.h"

namespace veneer::debug::gdb {

/// Called on the server's thread. States, memory and breakpoints are touched only while the machine stands still.
class Target {
 public:
  virtual ~Target() = default;
  virtual unsigned vcpu_count() const = 0;

  /// Makes all vCPUs stand still; false when they do not within some seconds.
  virtual bool stop() = 0;
  virtual void resume() = 0;
  /// Executes one instruction on one vCPU; its end is reported like a breakpoint.
  virtual void step(unsigned vcpu) = 0;
  /// Ends the machine.
  virtual void kill() = 0;

  virtual void get_state(unsigned vcpu, cpu::ArchState& state) = 0;
  virtual void set_state(unsigned vcpu, const cpu::ArchState& state) = 0;
  /// Guest-virtual memory as `vcpu` maps it. How many bytes from the beginning could be copied.
  virtual std::size_t read_memory(unsigned vcpu, std::uint64_t address, std::span<std::uint8_t> out) = 0;
  virtual std::size_t write_memory(unsigned vcpu, std::uint64_t address, std::span<const std::uint8_t> data) = 0;
  /// On every vCPU.
  virtual void set_breakpoint(std::uint64_t address, bool enabled) = 0;

  /// gdb's "monitor" command: what to print.
  virtual std::string monitor(std::string_view line) = 0;
};

}  // namespace veneer::debug::gdb
