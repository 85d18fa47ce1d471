// Moving the guest's x87, SSE, AVX and AVX-512 state between host registers and its save area. Register-only.
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/vcpu.h"

#ifdef VENEER_SANITIZED
extern "C" __attribute__((tls_model("initial-exec"))) __thread volatile char veneer_vectors_live;  // sanitizer_calls.S
#endif

namespace veneer::cpu::bt {
namespace {

/// The guest's registers are in the host's from now on, or no more: for a sanitizer's runtime, which uses them too.
void vectors_live([[maybe_unused]] bool live) {
#ifdef VENEER_SANITIZED
  veneer_vectors_live = live;
#endif
}

}  // namespace

void BtVcpu::save_vectors() {
  if (!vectors_loaded_) return;
  const std::uint64_t mask = engine_.vector_mask();
  asm volatile("xsave64 %0"
               : "+m"(*s.xsave.data())
               : "a"(static_cast<std::uint32_t>(mask)), "d"(mask >> 32)
               : "memory");
  // AMD's processors leave the x87 pointers out when no exception is pending, but load them.
  constexpr unsigned xstate_bv_at = 512;
  if (engine_.amd() && ((s.xsave[xstate_bv_at] & 1) || engine_.x87_pointers_alone())) {
    struct {
      std::uint32_t control, status, tags, instruction;
      std::uint16_t code_selector, opcode;
      std::uint32_t data, data_selector;
    } environment;
    asm volatile("fnstenv %0" : "=m"(environment));
    host_x87_pointers_to({environment.instruction, environment.data, environment.opcode}, s.xsave.data());
    if (environment.instruction | environment.data) s.xsave[xstate_bv_at] |= 1;
  }
  // What C++ expects (SysV ABI 3.2.1): all exceptions masked, empty x87 stack.
  const std::uint32_t mxcsr = 0x1f80;
  asm volatile("fninit; ldmxcsr %0; vzeroupper" : : "m"(mxcsr) : "memory");
  vectors_loaded_ = false;
  vectors_live(false);
}

void BtVcpu::load_vectors() {
  if (vectors_loaded_) return;
  const std::uint64_t mask = engine_.vector_mask();
  vectors_live(true);
  asm volatile("xrstor64 %0"
               :
               : "m"(*s.xsave.data()), "a"(static_cast<std::uint32_t>(mask)), "d"(mask >> 32)
               : "memory");
  vectors_loaded_ = true;
}

}  // namespace veneer::cpu::bt
