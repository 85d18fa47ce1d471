// VcpuThread: the host thread of one vCPU, and how it is told to run, stand still, step or end.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "base/doorbell.h"
#include "cpu/engine.h"
#include "devices/irq/lapic.h"
#include "vm/idleness.h"

namespace veneer::vm {

/// The vCPU whose thread is running this, for registers that every processor sees its own of (the APIC page).
/// On threads that are no vCPU's: 0.
unsigned current_vcpu();
/// The start of a thread that runs vCPU `index`, or several of which that is the first.
void begin_vcpu_thread(unsigned index, const char* name);

class VcpuThread {
 public:
  enum class Order : std::uint8_t { Run, Park, Step, Quit };
  /// Called on the vCPU's thread for every exit that is not everyday: Shutdown, Debug, Failed. The thread parks after
  /// it until the next order.
  using ExitListener = std::function<void(unsigned index, const cpu::Exit&)>;

  /// Parked; start() makes the thread. Takes the APIC's kick.
  VcpuThread(unsigned index, std::unique_ptr<cpu::Vcpu> vcpu, devices::LocalApic& apic, Idleness& idleness,
             std::uint32_t signature, ExitListener listener);
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

  // ---- Without start(): several of these on one thread (vm/one_thread.h), which asks and gives turns.
  enum class Readiness : std::uint8_t { Parked, Quit, Idle, Ready };
  /// What a turn would be good for. Takes orders to park, and a SIPI.
  Readiness readiness();
  /// Runs for about so many instructions, or carries out a Step. Only when Ready.
  void take_turn(std::uint64_t instructions, std::uint64_t tsc);
  bool ordered_to_run() const { return !ordered_away(); }
  /// `bell` is rung, and its futex woken, with every reason to ask again.
  void share_bell(std::atomic<std::uint32_t>& bell) { bell_ = &bell; }

 private:
  void loop();
  Order next_order();
  void park_self();
  void wake() noexcept;
  void run_guest();
  /// Without `interrupts` (IF clear) only signals end the wait.
  void wait_for_interrupt(bool interrupts);
  void wait_for_startup();
  /// Gives memory back when the vCPU has been idle for a while; for how long it may sleep then.
  std::uint64_t look_at_idleness();
  bool begin_at_startup();
  void take_init();
  bool ordered_away() const { return order_.load(std::memory_order_acquire) != Order::Run; }

  const unsigned index_;
  const std::uint32_t signature_;  ///< in EDX after INIT
  const std::unique_ptr<cpu::Vcpu> vcpu_;
  devices::LocalApic& apic_;
  Idleness& idleness_;
  const ExitListener listener_;
  std::uint64_t tsc_offset_ = 0;      // what INIT keeps
  bool waiting_for_startup_ = false;  // vCPU thread, or while parked

  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<Order> order_{Order::Park};  // written under mutex_
  bool parked_ = true;                     // guarded by mutex_

  IdleMeter meter_;    // vCPU thread
  Doorbell doorbell_;  ///< rung for every reason to look around; the halted vCPU sleeps on it
  std::thread thread_;

  // One thread for several
  std::atomic<std::uint32_t>* bell_ = nullptr;
  bool halted_ = false, halted_with_interrupts_ = false;
};

}  // namespace veneer::vm
