// VcpuThread: the host thread of one vCPU, and how it is told to run, stand still, step or end.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "cpu/engine.h"
#include "devices/irq/lapic.h"

namespace veneer::vm {

/// The vCPU whose thread is running this, for registers that every processor sees its own of (the APIC page).
/// On threads that are no vCPU's: 0.
unsigned current_vcpu();

class VcpuThread {
 public:
  enum class Order : std::uint8_t { Run, Park, Step, Quit };
  /// Called on the vCPU's thread for every exit that is not everyday: Shutdown, Debug, Failed. The thread parks after
  /// it until the next order.
  using ExitListener = std::function<void(unsigned index, const cpu::Exit&)>;

  /// Parked; start() makes the thread. Takes the APIC's kick.
  VcpuThread(unsigned index, std::unique_ptr<cpu::Vcpu> vcpu, devices::LocalApic& apic, ExitListener listener);
  ~VcpuThread();

  void start();
  /// Any thread. Takes effect soon; wait_parked() says when Park did. Nothing undoes Quit.
  void order(Order order);
  /// Waits until the thread does not touch the vCPU any more. Not with the board lock held.
  void wait_parked();
  /// Ends the thread. Not with the board lock held.
  void join();

  /// The register state after a reset; only while parked. Application processors wait for a SIPI then.
  void set_reset_state(const cpu::ArchState& state);
  /// A state that was saved; only while parked.
  void restore_state(const cpu::ArchState& state, bool waiting_for_startup);
  /// An application processor that has not got its SIPI. Only while parked.
  bool waiting_for_startup() const { return waiting_for_startup_; }

  cpu::Vcpu& vcpu() { return *vcpu_; }

 private:
  void loop();
  Order next_order();
  void park_self();
  void wake() noexcept;
  void run_guest();
  /// Without `interrupts` (IF clear) only signals end the wait.
  void wait_for_interrupt(bool interrupts);
  void wait_for_startup();
  void take_init();
  bool ordered_away() const { return order_.load(std::memory_order_acquire) != Order::Run; }

  const unsigned index_;
  const std::unique_ptr<cpu::Vcpu> vcpu_;
  devices::LocalApic& apic_;
  const ExitListener listener_;
  std::uint64_t tsc_offset_ = 0;      // what INIT keeps
  bool waiting_for_startup_ = false;  // vCPU thread, or while parked

  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<Order> order_{Order::Park};  // written under mutex_
  bool parked_ = true;                     // guarded by mutex_

  /// Counts reasons to look around; a futex for the halted vCPU.
  std::atomic<std::uint32_t> wakeups_{0};
  std::thread thread_;
};

}  // namespace veneer::vm
