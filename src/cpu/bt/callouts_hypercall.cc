// VMCALL and VMMCALL: KVM's hypercalls, for guests that wait and wake paravirtually. Register-only.
//
// State: none.
// Missing: KVM_HC_CLOCK_PAIRING, KVM_HC_VAPIC_POLL_IRQ, KVM_HC_MAP_GPA_RANGE: no guest is told of them.
// Spec: Linux, Documentation/virt/kvm/x86/hypercalls.rst.
#include <sys/syscall.h>

#include "cpu/bt/callouts.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

constexpr std::uint64_t KICK_CPU = 5, SEND_IPI = 10, SCHED_YIELD = 11;
constexpr std::int64_t KVM_ENOSYS = -1000;

std::int64_t hypercall(BtVcpu& v) {
  const std::uint64_t mask = v.code64() ? ~std::uint64_t{0} : 0xffffffffu;
  const auto argument = [&](unsigned reg) { return v.reg(reg) & mask; };
  std::int64_t result = 0;
  switch (argument(RAX)) {
    case KICK_CPU:
      v.with_vectors_saved([&] { v.engine().board().unhalt(static_cast<std::uint32_t>(argument(RCX))); });
      return 0;
    case SEND_IPI:
      v.with_vectors_saved([&] {
        const auto first = static_cast<std::uint32_t>(argument(RDX));
        const auto command = static_cast<std::uint32_t>(argument(RSI));
        // A bitmap of two words of the mode's width, from APIC id `first` on.
        const unsigned word_bits = v.code64() ? 64 : 32;
        for (unsigned word = 0; word < 2; word++)
          for (std::uint64_t left = argument(word ? RCX : RBX); left; left &= left - 1) {
            const auto id = first + word * word_bits + static_cast<std::uint32_t>(__builtin_ctzll(left));
            result += v.engine().board().send_ipi(v.index(), id, command);
          }
      });
      return result;
    case SCHED_YIELD: {
      if (v.engine().options().deterministic) v.end_turn();
      long call = SYS_sched_yield;
      asm volatile("syscall" : "+a"(call) : : "rcx", "r11", "memory");
      return 0;
    }
    default:
      return KVM_ENOSYS;
  }
}

}  // namespace

Outcome callout_hypercall(BtVcpu& v, const CalloutRecord&) {
  if (v.cpl() != 0) return v.fault(VECTOR_UD);
  const std::int64_t result = hypercall(v);
  v.set_reg(RAX, static_cast<std::uint64_t>(result), v.code64() ? 8 : 4);
  return Outcome::Next;  // it may have interrupted this vCPU
}

}  // namespace veneer::cpu::bt
