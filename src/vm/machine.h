// Machine: a whole virtual machine, from its config to its end.
//
// Threads: run() belongs to one thread, which it blocks; one thread per vCPU ("vcpuN") and one for events
// ("_events") live inside it. Everything marked "any thread" may also be called from event loop callbacks.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/event_loop.h"
#include "base/log.h"
#include "base/result.h"
#include "boot/linux.h"
#include "cpu/cpuid.h"
#include "cpu/engine.h"
#include "devices/legacy/uart16550.h"
#include "machine/guest_memory.h"
#include "vm/config.h"
#include "vm/control.h"
#include "vm/idleness.h"
#include "vm/machine_file.h"
#include "vm/mainboard.h"
#include "vm/one_thread.h"
#include "vm/tsc.h"
#include "vm/variable_store.h"
#include "vm/vcpu_thread.h"
#include "vm/virtual_time.h"

namespace veneer::vm {

/// Makes the engine that config.engine names; a test puts its own here.
using EngineFactory = std::function<Result<std::unique_ptr<cpu::Engine>>(const MachineConfig&, machine::GuestMemory&,
                                                                         cpu::Board&, const cpu::CpuidPolicy&)>;

/// The engines of this build (vm/engine_choice.cc).
Result<std::unique_ptr<cpu::Engine>> choose_engine(const MachineConfig& config, machine::GuestMemory& memory,
                                                   cpu::Board& board, const cpu::CpuidPolicy& cpuid);

class Machine {
 public:
  /// Builds everything and loads the kernel; no guest code runs yet. Errors are sentences for the user.
  static Result<std::unique_ptr<Machine>> create(MachineConfig config,
                                                 const EngineFactory& make_engine = choose_engine);
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  /// Runs the guest until it ends or request_stop(). Once per machine. A guest that crashed is a MachineExit too;
  /// an Error is a failure of the host.
  Result<MachineExit> run();

  // ---- Life cycle: any thread; they return at once, the thread in run() carries them out -------------------------
  /// Stops all vCPUs and the clocks.
  void pause() { control_.pause(); }
  void resume() { control_.resume(); }
  /// Hard reset, as by the button on the front: devices reset, kernel loaded again.
  void reset() { control_.reset(); }
  /// Presses the ACPI power button; the guest decides what it means.
  void power_button();
  /// The same if the guest can hear it now; else (it is paused, or still booting, or knows no ACPI) `unheard` is called
  /// on the event loop.
  void power_button_or(std::function<void()> unheard);
  /// Ends run() with this exit status.
  void request_stop(int status) { control_.stop(status); }

  /// True while all vCPUs stand still because of pause(). Any thread.
  bool paused() const { return control_.paused(); }
  /// Waits until paused() is `wanted`; false when the time is over or the machine has ended. Not with the board lock
  /// held (so not on the event loop).
  bool wait_paused(bool wanted, std::chrono::milliseconds limit) { return control_.wait_paused(wanted, limit); }

  // ---- State -----------------------------------------------------------------------------------------------------
  /// Writes the whole machine to an empty file (vm/machine_file.h). Only while paused(); any thread, without the board
  /// lock. A machine with config.restore goes on from such a file.
  Result<void> save(const Fd& file);

  // ---- Debugging -------------------------------------------------------------------------------------------------
  unsigned vcpu_count() const { return static_cast<unsigned>(threads_.size()); }
  /// State and breakpoints may be touched only while paused().
  cpu::Vcpu& vcpu(unsigned index) { return threads_[index]->vcpu(); }
  /// Executes one instruction on vCPU `index` of a paused machine, then calls the debug listener. Any thread.
  void step(unsigned index) { threads_[index]->order(VcpuThread::Order::Step); }
  /// Called on a vCPU's thread when it hit a breakpoint (the machine pauses then) or finished a step().
  /// Set before run().
  void set_debug_listener(std::function<void(unsigned vcpu)> listener) { debug_listener_ = std::move(listener); }

  // ---- Sockets ---------------------------------------------------------------------------------------------------
  const MachineConfig& config() const { return config_; }
  machine::BoardLock& board_lock() { return lock_; }
  EventLoop& events() { return events_; }
  machine::GuestMemory& memory() { return memory_; }
  Mainboard& board() { return *board_; }
  /// COM1; call it with the board lock held (event loop callbacks hold it).
  devices::Uart16550& serial() { return board_->serial(); }
  const cpu::Engine& engine() const { return *engine_; }
  /// Null unless the machine is deterministic.
  const OneThread* one_thread() const { return one_thread_.get(); }

 private:
  explicit Machine(MachineConfig config);
  Result<void> build(const EngineFactory& make_engine);
  Result<void> add_memory();
  Result<void> add_firmware();
  std::uint32_t signature() const;
  Result<void> load_guest();
  void find_boot_files();
  TimerService& timers();
  Result<void> power_on();
  Result<void> check_saved(const MachineFile& saved, std::uint64_t host_tsc_hz) const;
  Result<void> restore(const MachineFile& saved);
  Result<void> settle_disks();
  void carry_out_pause();
  void carry_out_resume();
  void carry_out_reset();
  void order_all(VcpuThread::Order order);
  void let_run();
  void park_all();
  void stop_threads();
  Result<void> close_disks();
  void on_vcpu_exit(unsigned index, const cpu::Exit& exit);

  MachineConfig config_;
  machine::BoardLock lock_;
  EventLoop events_;
  Control control_;
  GuestTsc tsc_;
  VirtualTime virtual_time_;  // in deterministic mode
  machine::GuestMemory memory_;
  machine::MemorySlot* flash_ = nullptr;  // with UEFI firmware: its variables
  std::unique_ptr<VariableStore> variable_store_;
  std::optional<boot::LinuxFiles> boot_files_;  // open since create(): a reset reads them again
  bool long_mode_ = true;                       // the processors have it
  cpu::ArchState boot_state_;
  std::unique_ptr<cpu::CpuidPolicy> cpuid_;
  std::unique_ptr<Mainboard> board_;
  std::unique_ptr<cpu::Engine> engine_;
  Idleness idleness_;
  std::vector<std::unique_ptr<VcpuThread>> threads_;
  std::unique_ptr<OneThread> one_thread_;  // in deterministic mode: runs all of threads_
  std::function<void(unsigned)> debug_listener_;
  LogLimiter crash_limiter_;
};

}  // namespace veneer::vm
