// MachineMonitor: the monitor's view of a vm::Machine.
#pragma once

#include <functional>
#include <mutex>
#include <string>

#include "cli/monitor.h"
#include "vm/machine.h"

namespace veneer::cli {

class MachineMonitor final : public MonitorTarget {
 public:
  /// `quit` asks for the end of the machine, without waiting for it.
  MachineMonitor(vm::Machine& machine, std::function<void()> quit) : machine_(machine), quit_(std::move(quit)) {}

  unsigned vcpu_count() const override { return machine_.vcpu_count(); }
  std::string registers(unsigned vcpu) override;
  std::string tlb(unsigned vcpu) override;
  std::string jit(unsigned vcpu) override;
  std::string events(unsigned vcpu) override;
  std::string status() override;
  std::string disks() override;
  std::string network() override;
  std::string balloon() override;
  std::string set_guest_memory(std::uint64_t bytes) override;
  std::string set_link(std::string name, bool up) override;
  std::string screen() override;
  std::string press_keys(std::vector<devices::KeyEvent> events) override;
  std::string move_mouse(int dx, int dy, int wheel) override;
  std::string set_mouse_buttons(std::uint8_t buttons) override;
  void pause() override;
  std::string grow_disk(std::string name, std::uint64_t size_bytes) override;
  std::string refresh_disk(std::string name) override;
  void resume() override { machine_.resume(); }
  void reset() override { machine_.reset(); }
  void power_button() override { machine_.power_button(); }
  void quit() override { quit_(); }

  /// Writes the whole machine to an empty file, standing still meanwhile.
  Result<void> save(const Fd& file);
  /// Writes what the screen shows to an empty file, as PNG.
  Result<void> screenshot(const Fd& file);

 private:
  /// Runs `look` under the board lock, on the event loop; this thread must not wait for that lock itself.
  std::string with_board(std::function<std::string()> look);
  std::string with_mouse(std::function<void(devices::Ps2Mouse&)> use);
  std::string with_disk(std::string name, std::function<Result<void>(disk::Disk&)> change);
  /// Runs `look` while all vCPUs stand still, and lets them go on if they were running.
  std::string while_paused(const std::function<std::string()>& look);

  std::mutex looking_;  // one at a time: the console, the debugger and the control socket may all ask
  vm::Machine& machine_;
  std::function<void()> quit_;
};

/// The registers as the monitor shows them.
std::string format_registers(const cpu::ArchState& state);

}  // namespace veneer::cli
