// The loop of a vCPU's thread.
#include "vm/vcpu_thread.h"

#include <pthread.h>
#include <signal.h>

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "base/thread_start.h"

namespace veneer::vm {
namespace {

thread_local unsigned current_index = 0;

/// Signals for the process as a whole go to threads that know what to do with them.
void block_process_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH, SIGCHLD, SIGPIPE, SIGALRM})
    sigaddset(&set, number);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

/// An application processor as a SIPI starts it: real mode at vector * 1000h (SDM 3A 9.4.3).
void start_at_page(cpu::ArchState& state, std::uint8_t page) {
  cpu::Segment& code = state.segments[cpu::CS];
  code.selector = static_cast<std::uint16_t>(page << 8);
  code.base = std::uint64_t{page} << 12;
  state.rip = 0;
}

}  // namespace

unsigned current_vcpu() { return current_index; }

VcpuThread::VcpuThread(unsigned index, std::unique_ptr<cpu::Vcpu> vcpu, devices::LocalApic& apic, ExitListener listener)
    : index_(index), vcpu_(std::move(vcpu)), apic_(apic), listener_(std::move(listener)) {
  apic_.set_kick([this] { wake(); });
}

VcpuThread::~VcpuThread() {
  join();
  apic_.set_kick({});
}

void VcpuThread::start() {
  VENEER_ASSERT(!thread_.joinable());
  thread_ = std::thread([this] { loop(); });
}

void VcpuThread::order(Order order) {
  {
    const std::lock_guard hold(mutex_);
    if (order_.load(std::memory_order_relaxed) == Order::Quit) return;
    order_.store(order, std::memory_order_release);
    if (order == Order::Run || order == Order::Step) parked_ = false;
    changed_.notify_all();
  }
  if (order == Order::Park || order == Order::Quit) vcpu_->request_exit();
  wake();
}

void VcpuThread::wait_parked() {
  std::unique_lock hold(mutex_);
  changed_.wait(hold, [this] { return parked_; });
}

void VcpuThread::join() {
  if (!thread_.joinable()) return;
  order(Order::Quit);
  thread_.join();
}

void VcpuThread::set_reset_state(const cpu::ArchState& state) {
  tsc_offset_ = state.tsc_offset;
  waiting_for_startup_ = index_ != 0;
  vcpu_->set_state(state);
}

void VcpuThread::restore_state(const cpu::ArchState& state, bool waiting_for_startup) {
  tsc_offset_ = state.tsc_offset;
  waiting_for_startup_ = waiting_for_startup;
  vcpu_->set_state(state);
}

void VcpuThread::wake() noexcept {
  wakeups_.fetch_add(1, std::memory_order_seq_cst);
  wakeups_.notify_one();
  // An INIT is not an interrupt: the engine has to come out for it.
  if (apic_.init_pending())
    vcpu_->request_exit();
  else
    vcpu_->kick();
}

void VcpuThread::loop() {
  current_index = index_;
  block_process_signals();
  begin_thread(ThreadKind::Vcpu, fmt::format("vcpu{}", index_).c_str());
  for (;;) {
    switch (next_order()) {
      case Order::Run:
        run_guest();
        break;
      case Order::Step:
        park_self();
        listener_(index_, vcpu_->step());
        break;
      case Order::Park:
        break;
      case Order::Quit: {
        const std::lock_guard hold(mutex_);
        parked_ = true;
        changed_.notify_all();
        return;
      }
    }
  }
}

/// What to do next; while that is Park, waits.
VcpuThread::Order VcpuThread::next_order() {
  std::unique_lock hold(mutex_);
  while (order_.load(std::memory_order_relaxed) == Order::Park) {
    parked_ = true;
    changed_.notify_all();
    changed_.wait(hold);
  }
  return order_.load(std::memory_order_relaxed);
}

/// Turns the order to Park, unless it is Quit.
void VcpuThread::park_self() {
  const std::lock_guard hold(mutex_);
  if (order_.load(std::memory_order_relaxed) != Order::Quit) order_.store(Order::Park, std::memory_order_release);
}

/// Runs until there is another order.
void VcpuThread::run_guest() {
  while (!ordered_away()) {
    if (apic_.init_pending()) take_init();
    if (waiting_for_startup_) {
      wait_for_startup();
      continue;
    }
    const cpu::Exit exit = vcpu_->run();
    switch (exit.reason) {
      case cpu::ExitReason::Halted:
        wait_for_interrupt(exit.interrupts_enabled);
        break;
      case cpu::ExitReason::Interrupted:
        break;
      case cpu::ExitReason::Shutdown:
      case cpu::ExitReason::Debug:
      case cpu::ExitReason::Failed:
        park_self();
        listener_(index_, exit);
        return;
    }
  }
}

void VcpuThread::wait_for_interrupt(bool interrupts) {
  for (;;) {
    const std::uint32_t seen = wakeups_.load(std::memory_order_seq_cst);
    if ((interrupts ? apic_.wake_pending() : apic_.signal_pending()) || ordered_away()) return;
    wakeups_.wait(seen, std::memory_order_seq_cst);
  }
}

void VcpuThread::wait_for_startup() {
  for (;;) {
    const std::uint32_t seen = wakeups_.load(std::memory_order_seq_cst);
    if (ordered_away()) return;
    if (apic_.init_pending()) take_init();  // before the SIPI that follows it, or it would undo that
    if (const auto page = apic_.take_startup()) {
      cpu::ArchState state;
      vcpu_->get_state(state);
      start_at_page(state, *page);
      vcpu_->set_state(state);
      waiting_for_startup_ = false;
      return;
    }
    wakeups_.wait(seen, std::memory_order_seq_cst);
  }
}

/// INIT (SDM 3A table 9-1): registers as after power-up, but the TSC runs on and x87/SSE state stays.
void VcpuThread::take_init() {
  apic_.take_init();
  cpu::ArchState old, fresh;
  vcpu_->get_state(old);
  cpu::reset_state(fresh);
  fresh.xsave = old.xsave;
  fresh.tsc_offset = old.tsc_offset;
  fresh.tsc_adjust = old.tsc_adjust;
  fresh.pat = old.pat;
  fresh.mtrr_def_type = old.mtrr_def_type;
  fresh.mtrr_fixed = old.mtrr_fixed;
  fresh.mtrr_variable = old.mtrr_variable;
  vcpu_->set_state(fresh);
  waiting_for_startup_ = !apic_.bootstrap();
}

}  // namespace veneer::vm
