// Faults in translated code: the loop poll, native divide and SIMD exceptions, misaligned operands, lost memory.
#include "cpu/bt/signals.h"

#include <pthread.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <mutex>

#include "cpu/bt/engine_impl.h"
#include "cpu/bt/stubs.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

thread_local BtVcpu* current_vcpu = nullptr;

struct sigaction previous_actions[65];

#ifndef AT_MINSIGSTKSZ
#define AT_MINSIGSTKSZ 51
#endif

/// The alternate stack of a thread, made on first use and kept until the thread ends.
struct AlternateStack {
  void* memory = MAP_FAILED;
  std::size_t size = 0;

  void ensure() {
    if (memory != MAP_FAILED) return;
    // The frame holds the whole vector state: 12 KiB and more (traps.md 20).
    size = std::max<std::size_t>(64 * 1024, ::getauxval(AT_MINSIGSTKSZ) * 4);
    memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return;
    stack_t stack{};
    stack.ss_sp = memory;
    stack.ss_size = size;
    ::sigaltstack(&stack, nullptr);
  }
  ~AlternateStack() {
    if (memory == MAP_FAILED) return;
    stack_t stack{};
    stack.ss_flags = SS_DISABLE;
    ::sigaltstack(&stack, nullptr);
    ::munmap(memory, size);
  }
};
thread_local AlternateStack alternate_stack;

void handler(int signal, siginfo_t* info, void* context) {
  auto* frame = static_cast<ucontext_t*>(context);
  auto& registers = frame->uc_mcontext.gregs;
  if (BtVcpu* vcpu = current_vcpu) {
    auto pc = static_cast<std::uint64_t>(registers[REG_RIP]);
    auto flags = static_cast<std::uint64_t>(registers[REG_EFL]);
    if (signal == SIGSEGV && vcpu->return_stack_full(reinterpret_cast<std::uint64_t>(info->si_addr), pc)) {
      registers[REG_RSP] = static_cast<greg_t>(vcpu->b->return_base);
      return;
    }
    const NativeFault what{signal, static_cast<unsigned>(registers[REG_TRAPNO]),
                           reinterpret_cast<std::uint64_t>(info->si_addr)};
    if (vcpu->native_fault(what, pc, flags)) {
      registers[REG_RIP] = static_cast<greg_t>(pc);
      registers[REG_EFL] = static_cast<greg_t>(flags);
      return;
    }
  }
  // Not ours: whoever was installed before (a crash reporter, or the default) has it.
  const struct sigaction& before = previous_actions[signal];
  if ((before.sa_flags & SA_SIGINFO) && before.sa_sigaction) return before.sa_sigaction(signal, info, context);
  if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) return before.sa_handler(signal);
  ::sigaction(signal, &before, nullptr);
  ::raise(signal);
}

}  // namespace

void install_signal_handlers() {
  static std::once_flag once;
  std::call_once(once, [] {
    for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) {
      struct sigaction action {};
      action.sa_sigaction = handler;
      action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
      sigemptyset(&action.sa_mask);
      ::sigaction(signal, &action, &previous_actions[signal]);
    }
  });
}

ThreadScope::ThreadScope(BtVcpu& vcpu) : previous_(current_vcpu) {
  alternate_stack.ensure();
  current_vcpu = &vcpu;
}

ThreadScope::~ThreadScope() { current_vcpu = previous_; }

bool BtVcpu::return_stack_full(std::uint64_t address, std::uint64_t pc) const {
  // Pairs are 16 bytes and aligned: it was the first half that did not fit.
  return address - return_guard_ < page_size && engine_.cache().contains(reinterpret_cast<void*>(pc));
}

bool BtVcpu::native_fault(const NativeFault& what, std::uint64_t& pc, std::uint64_t& flags) {
  CodeCache& cache = engine_.cache();
  if (!cache.contains(reinterpret_cast<void*>(pc))) return false;
  const Block* block = cache.find_by_code(reinterpret_cast<void*>(pc));
  if (!block) return false;
  const SideEntry* entry = block->entry_at(reinterpret_cast<const std::uint8_t*>(pc));
  auto leave = [&](ExitKind kind, std::uint64_t arg, std::uint16_t guest_offset) {
    b->rip = rip_of(guest_offset);
    b->exit_kind = static_cast<std::uint64_t>(kind);
    b->exit_arg = arg;
    pc = reinterpret_cast<std::uint64_t>(veneer_bt_stub_exit);
    return true;
  };
  if (what.signal == SIGSEGV &&
      (what.address == b->pending_bad_poll || what.address - credit_end_ < credit_guard_bytes))
    return leave(ExitKind::Poll, 0, entry ? entry->guest_offset : block->offset);
  count.native_faults++;
  note(flight::Event::HostFault, pc, static_cast<std::uint32_t>(what.signal));
  if (!entry) return false;
  if (what.signal == SIGBUS) {
    failed_ = true;
    failure_ =
        "the host ran out of memory for guest RAM (SIGBUS): give the guest less memory, or use --prealloc to find "
        "out before it starts";
    return leave(ExitKind::Fault, VECTOR_MC, entry->guest_offset);
  }
  if (what.signal == SIGSEGV) {
    // The operand passed the check but the processor refused it: misaligned, or the poisoned slot's non-canonical
    // address. The slow path rebuilds the flags and answers #GP.
    if (entry->cold_offset != SideEntry::no_cold) {
      force_gp_ = true;
      b->rip = rip_of(entry->guest_offset);
      b->exit_kind = static_cast<std::uint64_t>(ExitKind::Fault);
      b->exit_arg = VECTOR_GP;
      pc = reinterpret_cast<std::uint64_t>(block->cold) + entry->cold_offset;
      return true;
    }
  }
  // SDM 3A 6.15, interrupt 19: without CR4.OSXMMEXCPT a SIMD exception is #UD.
  const bool no_xm = what.trap == VECTOR_XM && !(s.cr4 & CR4_OSXMMEXCPT);
  const auto vector = static_cast<std::uint8_t>(what.signal == SIGSEGV            ? unsigned{VECTOR_GP}
                                                : what.signal == SIGFPE && !no_xm ? what.trap
                                                                                  : unsigned{VECTOR_UD});
  if (entry->flags == FlagsAt::Image) {
    const std::uint64_t image = b->flags_image;
    flags = (flags & ~RFLAGS_ARITH) | ((image >> 8) & RFLAGS_ARITH & 0xff) | ((image & 1) << 11);
  }
  if (entry->flags == FlagsAt::Recipe) {
    // A slow path makes the flags again, then leaves: that of the access, or one of its own.
    if (entry->cold_offset == SideEntry::no_cold) return false;
    native_vector_ = vector;
    b->rip = rip_of(entry->guest_offset);
    b->exit_kind = static_cast<std::uint64_t>(ExitKind::Fault);
    b->exit_arg = static_cast<std::uint64_t>(native_vector_);
    pc = reinterpret_cast<std::uint64_t>(block->cold) + entry->cold_offset;
    return true;
  }
  return leave(ExitKind::Fault, vector, entry->guest_offset);
}

}  // namespace veneer::cpu::bt
