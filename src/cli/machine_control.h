// MachineControl: a vm::Machine as its control socket sees it.
#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "base/fd.h"
#include "cli/guest_input.h"
#include "cli/machine_monitor.h"
#include "host/control_server.h"
#include "vm/machine.h"

namespace veneer::cli {

class MachineControl final : public host::ControlTarget {
 public:
  /// Opens what it looks at later, so make it before the sandbox is entered. `quit` asks for the end.
  MachineControl(vm::Machine& machine, MachineMonitor& monitor, GuestInput& input, std::function<void()> quit);

  host::MachineStatus status() override;
  std::string execute(const std::string& line) override;
  void press_power_button() override { machine_.power_button(); }
  void end() override { quit_(); }
  Result<void> save(const Fd& file) override;
  Result<void> screenshot(const Fd& file) override { return looker_.screenshot(file); }
  std::size_t type(std::span<const std::uint8_t> bytes) override { return input_.offer(bytes); }

 private:
  vm::Machine& machine_;
  MachineMonitor& looker_;
  Monitor monitor_;
  GuestInput& input_;
  std::function<void()> quit_;
  Fd statm_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
};

}  // namespace veneer::cli
