// Moving the guest's x87, SSE, AVX and AVX-512 state between host registers and its save area. Register-only.
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {

void BtVcpu::save_vectors() {
  if (!vectors_loaded_) return;
  const std::uint64_t mask = engine_.vector_mask();
  asm volatile("xsave64 %0"
               : "+m"(*s.xsave.data())
               : "a"(static_cast<std::uint32_t>(mask)), "d"(mask >> 32)
               : "memory");
  // Native instruction and data pointers are addresses of ours: neither snapshots nor guests see them (docs/QUIRKS.md).
  constexpr unsigned opcode = 6, instruction_pointer = 8, data_pointer = 16;
  s.xsave[opcode] = s.xsave[opcode + 1] = 0;
  __builtin_memset(s.xsave.data() + instruction_pointer, 0, data_pointer + 8 - instruction_pointer);
  // What C++ expects (SysV ABI 3.2.1): all exceptions masked, empty x87 stack.
  const std::uint32_t mxcsr = 0x1f80;
  asm volatile("fninit; ldmxcsr %0; vzeroupper" : : "m"(mxcsr) : "memory");
  vectors_loaded_ = false;
}

void BtVcpu::load_vectors() {
  if (vectors_loaded_) return;
  const std::uint64_t mask = engine_.vector_mask();
  asm volatile("xrstor64 %0"
               :
               : "m"(*s.xsave.data()), "a"(static_cast<std::uint32_t>(mask)), "d"(mask >> 32)
               : "memory");
  vectors_loaded_ = true;
}

}  // namespace veneer::cpu::bt
