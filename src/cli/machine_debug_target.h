// MachineDebugTarget: a vm::Machine as the gdb stub sees it.
#pragma once

#include "cli/monitor.h"
#include "debug/gdb/target.h"
#include "vm/machine.h"

namespace veneer::cli {

class MachineDebugTarget final : public debug::gdb::Target {
 public:
  /// Both must outlive this; `monitor` serves gdb's "monitor" command.
  MachineDebugTarget(vm::Machine& machine, MonitorTarget& monitor) : machine_(machine), monitor_(monitor) {}

  unsigned vcpu_count() const override { return machine_.vcpu_count(); }
  bool stop() override;
  void resume() override { machine_.resume(); }
  void step(unsigned vcpu) override { machine_.step(vcpu); }
  void kill() override { monitor_.quit(); }

  void get_state(unsigned vcpu, cpu::ArchState& state) override;
  void set_state(unsigned vcpu, const cpu::ArchState& state) override;
  std::size_t read_memory(unsigned vcpu, std::uint64_t address, std::span<std::uint8_t> out) override;
  std::size_t write_memory(unsigned vcpu, std::uint64_t address, std::span<const std::uint8_t> data) override;
  void set_breakpoint(std::uint64_t address, bool enabled) override;
  std::string monitor(std::string_view line) override { return Monitor(monitor_).execute(line); }

 private:
  vm::Machine& machine_;
  MonitorTarget& monitor_;
};

}  // namespace veneer::cli
