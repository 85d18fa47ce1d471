// MachineDebugTarget: registers, memory and breakpoints of a machine that stands still.
//
// If the CPUs cannot be stopped (a bug of ours: they always can), answers are empty in place of racing with them.
#include "cli/machine_debug_target.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "base/units.h"

namespace veneer::cli {
namespace {

constexpr std::chrono::seconds stop_patience{5};

/// Calls `copy(physical, offset, bytes)` for each page of [address, address + size) until one is not mapped or fails.
template <typename Copy>
std::size_t walk(vm::Machine& machine, unsigned vcpu, std::uint64_t address, std::size_t size, Copy copy) {
  std::size_t done = 0;
  while (done < size) {
    const GuestVirt at{address + done};
    const std::size_t bytes = std::min<std::size_t>(size - done, page_size - at.page_offset());
    const std::optional<GuestPhys> physical = machine.vcpu(vcpu).translate(at);
    if (!physical || !copy(*physical, done, bytes)) break;
    done += bytes;
  }
  return done;
}

}  // namespace

bool MachineDebugTarget::stop() {
  machine_.pause();
  return machine_.wait_paused(true, stop_patience);
}

void MachineDebugTarget::get_state(unsigned vcpu, cpu::ArchState& state) {
  if (machine_.paused()) machine_.vcpu(vcpu).get_state(state);
}

void MachineDebugTarget::set_state(unsigned vcpu, const cpu::ArchState& state) {
  if (machine_.paused()) machine_.vcpu(vcpu).set_state(state);
}

std::size_t MachineDebugTarget::read_memory(unsigned vcpu, std::uint64_t address, std::span<std::uint8_t> out) {
  if (!machine_.paused()) return 0;
  return walk(machine_, vcpu, address, out.size(), [&](GuestPhys physical, std::size_t offset, std::size_t bytes) {
    return machine_.memory().read(physical, std::as_writable_bytes(out.subspan(offset, bytes)));
  });
}

std::size_t MachineDebugTarget::write_memory(unsigned vcpu, std::uint64_t address, std::span<const std::uint8_t> data) {
  if (!machine_.paused()) return 0;
  return walk(machine_, vcpu, address, data.size(), [&](GuestPhys physical, std::size_t offset, std::size_t bytes) {
    return machine_.memory().write(physical, std::as_bytes(data.subspan(offset, bytes)));
  });
}

void MachineDebugTarget::set_breakpoint(std::uint64_t address, bool enabled) {
  if (!machine_.paused()) return;
  for (unsigned i = 0; i < machine_.vcpu_count(); ++i) machine_.vcpu(i).set_breakpoint(GuestVirt{address}, enabled);
}

}  // namespace veneer::cli
