// The loop of a vCPU's thread.
#include "vm/vcpu_thread.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "base/thread_start.h"

namespace veneer::vm {
namespace {

thread_local unsigned current_index = 0;
thread_local bool runs_vcpus = false;

/// Signals for the process as a whole go to threads that know what to do with them.
void block_process_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGCONT, SIGWINCH, SIGCHLD, SIGPIPE, SIGALRM})
    sigaddset(&set, number);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

std::uint64_t now_ns(clockid_t clock) {
  timespec t;
  ::clock_gettime(clock, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(t.tv_nsec);
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

void begin_vcpu_thread(unsigned index, const char* name) {
  current_index = index;
  runs_vcpus = true;
  block_process_signals();
  begin_thread(ThreadKind::Vcpu, name);
}

VcpuThread::VcpuThread(unsigned index, std::unique_ptr<cpu::Vcpu> vcpu, devices::LocalApic& apic, Idleness& idleness,
                       std::uint32_t signature, ExitListener listener)
    : index_(index),
      signature_(signature),
      vcpu_(std::move(vcpu)),
      apic_(apic),
      idleness_(idleness),
      listener_(std::move(listener)) {
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
  doorbell_.ring();
  if (bell_) {
    bell_->fetch_add(1, std::memory_order_seq_cst);
    bell_->notify_one();
    // From elsewhere a kick would come at another instruction each time. The next turn looks by itself.
    if (!runs_vcpus) return;
  }
  // An INIT is not an interrupt: the engine has to come out for it.
  if (apic_.init_pending())
    vcpu_->request_exit();
  else
    vcpu_->kick();
}

void VcpuThread::loop() {
  begin_vcpu_thread(index_, fmt::format("vcpu{}", index_).c_str());
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
    const std::uint64_t patience_ns = look_at_idleness();
    const std::uint32_t seen = doorbell_.rings();
    if ((interrupts ? apic_.wake_pending() : apic_.signal_pending()) || ordered_away()) return;
    doorbell_.wait(seen, patience_ns);
  }
}

std::uint64_t VcpuThread::look_at_idleness() {
  std::uint64_t now = now_ns(CLOCK_MONOTONIC);
  if (now >= meter_.next_look_ns()) {
    const IdleMeter::Clocks clocks{now, now_ns(CLOCK_THREAD_CPUTIME_ID)};
    switch (meter_.look(clocks)) {
      case IdleMeter::State::Busy:
        idleness_.works(index_);
        break;
      case IdleMeter::State::Waiting:
        break;
      case IdleMeter::State::Idle: {
        const bool gave = vcpu_->give_back_memory(idleness_.rests(index_));
        meter_.gave_back({now, now_ns(CLOCK_THREAD_CPUTIME_ID)}, gave);
        break;
      }
    }
  }
  return meter_.idle_at_ns() > now ? meter_.idle_at_ns() - now : 1;
}

void VcpuThread::wait_for_startup() {
  idleness_.rests(index_);
  for (;;) {
    const std::uint32_t seen = doorbell_.rings();
    if (ordered_away()) return;
    if (apic_.init_pending()) take_init();  // before the SIPI that follows it, or it would undo that
    if (begin_at_startup()) break;
    constexpr std::uint64_t hour_ns = 3'600'000'000'000;
    doorbell_.wait(seen, hour_ns);
  }
  idleness_.works(index_);
}

bool VcpuThread::begin_at_startup() {
  const auto page = apic_.take_startup();
  if (!page) return false;
  cpu::ArchState state;
  vcpu_->get_state(state);
  start_at_page(state, *page);
  vcpu_->set_state(state);
  waiting_for_startup_ = false;
  return true;
}

VcpuThread::Readiness VcpuThread::readiness() {
  {
    const std::lock_guard hold(mutex_);
    const Order order = order_.load(std::memory_order_relaxed);
    if (order == Order::Step) return Readiness::Ready;
    if (order != Order::Run) {
      if (!parked_) halted_ = false;  // the next run() says so itself
      parked_ = true;
      changed_.notify_all();
      return order == Order::Quit ? Readiness::Quit : Readiness::Parked;
    }
  }
  if (apic_.init_pending()) take_init(), halted_ = false;
  if (waiting_for_startup_) return begin_at_startup() ? Readiness::Ready : Readiness::Idle;
  if (halted_ && !(halted_with_interrupts_ ? apic_.wake_pending() : apic_.signal_pending())) return Readiness::Idle;
  return Readiness::Ready;
}

void VcpuThread::take_turn(std::uint64_t instructions, std::uint64_t tsc) {
  current_index = index_;
  vcpu_->begin_turn(instructions, tsc);
  if (order_.load(std::memory_order_acquire) == Order::Step) {
    park_self();
    return listener_(index_, vcpu_->step());
  }
  const cpu::Exit exit = vcpu_->run();
  halted_ = exit.reason == cpu::ExitReason::Halted;
  halted_with_interrupts_ = exit.interrupts_enabled;
  if (halted_ || exit.reason == cpu::ExitReason::Interrupted) return;
  park_self();
  listener_(index_, exit);
}

/// INIT (SDM 3A table 9-1): registers as after power-up, but the TSC runs on and x87/SSE state stays.
void VcpuThread::take_init() {
  apic_.take_init();
  cpu::ArchState old, fresh;
  vcpu_->get_state(old);
  cpu::reset_state(fresh);
  fresh.gpr[cpu::RDX] = signature_;
  fresh.xsave = old.xsave;
  fresh.tsc_offset = old.tsc_offset;
  fresh.tsc_adjust = old.tsc_adjust;
  fresh.pat = old.pat;
  fresh.mtrr_def_type = old.mtrr_def_type;
  fresh.mtrr_fixed = old.mtrr_fixed;
  fresh.mtrr_variable = old.mtrr_variable;
  fresh.mcg_status = old.mcg_status;
  fresh.mcg_ctl = old.mcg_ctl;
  fresh.mce = old.mce;
  vcpu_->set_state(fresh);
  waiting_for_startup_ = !apic_.bootstrap();
}

}  // namespace veneer::vm
