// Callouts for the x87 environment and state images: FNSTENV, FLDENV, FNSAVE, FRSTOR. Register-only.
//
// The processor itself makes and reads the 32-bit protected-mode image, in a buffer of ours; the 16-bit forms are made
// of it, as are those of real and virtual-8086 mode (SDM 1 8.1.10). Instruction and data pointers in the registers are
// addresses of ours: images show the guest's (x87_pointers.h).
#include "base/units.h"
#include "cpu/bt/callouts.h"
#include "cpu/bt/copy_bytes.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

constexpr unsigned wide_bytes = 28, narrow_bytes = 14;
constexpr unsigned stack_bytes = 80;  ///< ST0-ST7, 10 bytes each
constexpr std::uint16_t FSW_ES = 1u << 7;

/// The 32-bit protected-mode format: low halves, each with a half that processors fill with ones.
struct Environment {
  std::uint16_t control, unused0;
  std::uint16_t status, unused1;
  std::uint16_t tags, unused2;
  std::uint32_t instruction_pointer;
  std::uint16_t instruction_selector, opcode;
  std::uint32_t data_pointer;
  std::uint16_t data_selector, unused3;
};
static_assert(sizeof(Environment) == wide_bytes);

struct State {
  Environment environment;
  std::uint8_t stack[stack_bytes];
};
static_assert(sizeof(State) == wide_bytes + stack_bytes);

/// The 16-bit format, a word each.
struct NarrowEnvironment {
  std::uint16_t control, status, tags, instruction_pointer, instruction_selector, data_pointer, data_selector;
};
static_assert(sizeof(NarrowEnvironment) == narrow_bytes);

/// Real and virtual-8086 mode have linear addresses in place of selectors and offsets.
bool real_format(const BtVcpu& v) { return v.mode.has(Mode::REAL | Mode::VM86); }

std::uint32_t low32(std::uint64_t value) { return static_cast<std::uint32_t>(value); }
std::uint16_t low16(std::uint64_t value) { return static_cast<std::uint16_t>(value); }

void show_pointers(BtVcpu& v, Environment& e) {
  const X87Pointers p = v.x87_pointers({e.instruction_pointer, e.data_pointer, e.opcode});
  e.instruction_pointer = low32(p.instruction);
  e.instruction_selector = p.code_selector;
  e.opcode = p.opcode;
  e.data_pointer = low32(p.data);
  e.data_selector = p.data_selector;
  if (!real_format(v)) return;
  const std::uint32_t code = low32(p.instruction + (std::uint64_t{p.code_selector} << 4));
  const std::uint32_t data = low32(p.data + (std::uint64_t{p.data_selector} << 4));
  e.instruction_pointer = code & 0xffff;
  e.instruction_selector = low16((code >> 16) << 12 | p.opcode);
  e.opcode = low16(code >> 20);
  e.data_pointer = data & 0xffff;
  e.data_selector = low16((data >> 16) << 12);
  e.unused3 = low16(data >> 20);
}

void take_pointers(BtVcpu& v, Environment& e) {
  X87Pointers p{e.instruction_pointer, e.data_pointer, e.instruction_selector, e.data_selector,
                low16(e.opcode & 0x7ff)};
  if (real_format(v)) {
    p.opcode = e.instruction_selector & 0x7ff;
    p.instruction = (e.instruction_pointer & 0xffff) | std::uint32_t{e.opcode & 0xfffu} << 20 |
                    (e.instruction_selector & 0xf000u) << 4;
    p.data = (e.data_pointer & 0xffff) | std::uint32_t{e.unused3 & 0xfffu} << 20 | (e.data_selector & 0xf000u) << 4;
    p.code_selector = p.data_selector = 0;
  }
  const HostX87Pointers host = v.keep_x87_pointers(p);
  e.instruction_pointer = host.instruction;
  e.data_pointer = host.data;
  e.instruction_selector = e.opcode = e.data_selector = 0;
  e.unused3 = 0xffff;
}

bool narrow(const CalloutRecord& r) { return r.memory_bytes == narrow_bytes || r.memory_bytes == narrow_bytes + 80; }

/// Whether the image can be reached. AMD's processors try its first field, then its last byte, before all else, which
/// shows in CR2.
bool ends_reachable(BtVcpu& v, const CalloutRecord& r, std::uint64_t address, Access access) {
  if (!v.check_alignment(address, r.memory_bytes)) return false;
  const auto segment = static_cast<SegReg>(r.memory.segment);
  const std::uint64_t offset = v.effective_address(r.memory);
  if (!v.engine().amd()) return v.code64() || v.check_segment(segment, offset, r.memory_bytes, access);
  const unsigned field = narrow(r) ? 2 : 4;
  if (!v.range_reachable(r.memory.segment, address, field))
    return v.raise(r.memory.segment == SS ? VECTOR_SS : VECTOR_GP, 0);
  for (const unsigned at : {0u, field - 1, r.memory_bytes - 1u}) {
    std::uint64_t byte = address + at;
    if (!v.code64() && !v.check_segment(segment, offset + at, 1, access)) return false;
    if (!v.code64()) byte &= 0xffffffffu;
    if (!v.range_reachable(r.memory.segment, byte, 1)) return v.raise(r.memory.segment == SS ? VECTOR_SS : VECTOR_GP, 0);
    if (at == field - 1 && (byte & page_offset_mask) < at) byte &= ~page_offset_mask;
    GuestPhys physical;
    bool faulted;
    v.page_pointer(byte, access, false, physical, faulted);
    if (faulted) return false;
  }
  return true;
}

/// Stores the environment, and the registers behind it if `with_stack`.
bool store(BtVcpu& v, const CalloutRecord& r, std::uint64_t address, State& state, bool with_stack) {
  show_pointers(v, state.environment);
  if (!ends_reachable(v, r, address, Access::Write)) return false;
  if (!narrow(r)) return v.write_memory(address, &state, with_stack ? sizeof state : wide_bytes);
  const Environment& e = state.environment;
  const NarrowEnvironment small{
      e.control,      e.status, e.tags, low16(e.instruction_pointer), e.instruction_selector, low16(e.data_pointer),
      e.data_selector};
  std::uint8_t image[narrow_bytes + stack_bytes];
  copy_bytes(image, &small, sizeof small);
  copy_bytes(image + narrow_bytes, state.stack, stack_bytes);
  return v.write_memory(address, image, with_stack ? sizeof image : narrow_bytes);
}

bool load(BtVcpu& v, const CalloutRecord& r, State& state, bool with_stack) {
  std::uint64_t address;
  if (!v.linear_address(r.memory, address, 1, Access::Read)) return false;
  if (!ends_reachable(v, r, address, Access::Read)) return false;
  if (!narrow(r)) {
    if (!v.read_memory(address, &state, with_stack ? sizeof state : wide_bytes)) return false;
    take_pointers(v, state.environment);
    return true;
  }
  std::uint8_t image[narrow_bytes + stack_bytes];
  if (!v.read_memory(address, image, with_stack ? sizeof image : narrow_bytes)) return false;
  NarrowEnvironment small;
  copy_bytes(&small, image, sizeof small);
  state.environment = {small.control,
                       0xffff,
                       small.status,
                       0xffff,
                       small.tags,
                       0xffff,
                       small.instruction_pointer,
                       small.instruction_selector,
                       0,
                       small.data_pointer,
                       small.data_selector,
                       0};
  take_pointers(v, state.environment);
  copy_bytes(state.stack, image + narrow_bytes, stack_bytes);
  return true;
}

/// FLDENV and FRSTOR wait: an exception that is pending comes first, and must not come up in here.
bool pending(BtVcpu& v) {
  std::uint16_t status;
  asm volatile("fnstsw %0" : "=a"(status));
  return (status & FSW_ES) && !v.raise(VECTOR_MF);
}

}  // namespace

Outcome callout_fnstenv(BtVcpu& v, const CalloutRecord& r) {
  std::uint64_t address;
  if (!v.linear_address(r.memory, address, 1, Access::Write)) return Outcome::Fault;
  State state;
  // Exceptions become masked, but only once the image is stored.
  asm volatile("fnstenv %0; fldenv %0" : "=m"(state.environment));
  if (!store(v, r, address, state, false)) return Outcome::Fault;
  v.load_vectors();
  Environment unused;
  asm volatile("fnstenv %0" : "=m"(unused));
  return Outcome::Continue;
}

Outcome callout_fldenv(BtVcpu& v, const CalloutRecord& r) {
  State state;
  if (pending(v) || !load(v, r, state, false)) return Outcome::Fault;
  v.load_vectors();
  asm volatile("fldenv %0" : : "m"(state.environment));
  return Outcome::Continue;
}

Outcome callout_fnsave(BtVcpu& v, const CalloutRecord& r) {
  std::uint64_t address;
  if (!v.linear_address(r.memory, address, 1, Access::Write)) return Outcome::Fault;
  State state;
  asm volatile("fnsave %0; frstor %0" : "=m"(state));
  if (!store(v, r, address, state, true)) return Outcome::Fault;
  v.load_vectors();
  asm volatile("fninit");
  return Outcome::Continue;
}

Outcome callout_frstor(BtVcpu& v, const CalloutRecord& r) {
  State state;
  if (pending(v) || !load(v, r, state, true)) return Outcome::Fault;
  v.load_vectors();
  asm volatile("frstor %0" : : "m"(state));
  return Outcome::Continue;
}

}  // namespace veneer::cpu::bt
