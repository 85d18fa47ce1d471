// The engine's side: loading a case into the guest, running it, and reading how it ended.
#include "guest.h"

#include <cstring>

#include "guest_layout.h"

namespace veneer::fuzz {

using namespace cpu;

Result<void> Guest::create() {
  if (auto slot = memory_.add("ram", GuestPhys{0}, guest_ram_bytes, machine::SlotKind::Ram); !slot)
    return std::move(slot).error();
  build_tables();
  EngineOptions options;
  if (mode_ == GuestMode::Instructions) options.max_block_instructions = 1;
  TRY(engine_, make_bt_engine(memory_, board_, policy_, options));
  TRY(vcpu_, engine_->make_vcpu(0));
  return {};
}

void Guest::start_state(const Case& in, ArchState& state) const {
  const Image& start = in.start;
  reset_state(state);
  state.gpr = start.gpr;
  state.rip = start.rip;
  state.rflags = start.rflags;
  state.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
  state.cr3 = page_tables_at;
  state.cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE;
  if (policy_.has(7, 0, CpuidPolicy::Register::Ecx, 2)) state.cr4 |= CR4_UMIP;
  state.efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
  state.xcr0 = policy_.xcr0_mask();
  // Types 11 and 3, S, DPL 3, P; L, DB and G by width.
  constexpr std::uint16_t code = 0xfb, data = 0xf3;
  const bool small = in.width == CodeWidth::Bits16;
  const unsigned code_bits = small                           ? 0u
                             : in.width == CodeWidth::Bits32 ? Segment::DB | Segment::G
                                                             : Segment::L | Segment::G;
  state.segments[CS] = {code_selector(in.width), static_cast<std::uint16_t>(code | code_bits),
                        small ? 0xffffu : 0xffffffffu, code_segment_base(in.width)};
  const Segment flat = {data_selector(in.width),
                        static_cast<std::uint16_t>(data | Segment::G | (small ? 0 : Segment::DB)), 0xffffffff,
                        data_segment_base(in.width)};
  for (const SegReg segment : {SS, DS, ES}) state.segments[segment] = flat;
  for (const SegReg null : {FS, GS}) state.segments[null] = {};
  state.segments[FS].base = start.fs_base;
  state.segments[GS].base = start.gs_base;
  constexpr std::uint16_t busy_tss = 0x8b;
  state.tr = {tss_selector, busy_tss, tss_bytes - 1, kernel_base + tss_at};
  constexpr std::uint16_t ldt = 0x82;
  state.ldtr = {ldt_selector, ldt, ldt_bytes - 1, kernel_base + ldt_at};
  state.gdtr = {kernel_base + gdt_at, gdt_bytes - 1};
  state.idtr = {kernel_base + idt_at, 256 * 16 - 1};
  state.xsave = start.xsave;
}

void Guest::load(const Case& in) {
  constexpr std::uint8_t INT3 = 0xcc;
  std::uint8_t code[max_code_bytes];
  std::memset(code, INT3, sizeof code);
  put(code_at + old_code_offset_, code, old_code_size_);
  put(code_at + in.code_offset, in.code, in.code_size);
  old_code_offset_ = in.code_offset;
  old_code_size_ = in.code_size;
}

Exit Guest::run_loaded(const Case& in) {
  std::uint32_t pattern = in.memory_start;
  for (std::size_t i = 0; i < data_pages.size(); i++) {
    if (data_pages[i].writable) {
      auto* page = reinterpret_cast<std::uint8_t*>(memory_.at(GuestPhys{data_at[i]}, page_bytes));
      pool_.fill(pattern, {page, page_bytes});
      memory_.written(GuestPhys{data_at[i]}, page_bytes);
    }
    pattern += page_bytes;
  }
  start_state(in, state_);
  vcpu_->set_state(state_);
  Exit exit;
  if (mode_ == GuestMode::Steps) {
    constexpr unsigned plenty = 10'000;
    for (unsigned i = 0; i < plenty; i++) {
      exit = vcpu_->step();
      if (exit.reason != ExitReason::Debug) break;
    }
  } else {
    exit = vcpu_->run();
  }
  vcpu_->get_state(state_);
  return exit;
}

void Guest::run(const Case& in, Outcome& out) {
  load(in);
  Exit exit = run_loaded(in);
  // Every other case runs once more, on translations that exist and are linked.
  if (mode_ == GuestMode::Blocks && (in.memory_start & 8)) exit = run_loaded(in);
  for (std::size_t i = 0; i < data_pages.size(); i++)
    std::memcpy(out.memory[i], memory_.at(GuestPhys{data_at[i]}, page_bytes), page_bytes);
  out.image.gpr = state_.gpr;
  out.image.fs_base = state_.segments[FS].base;
  out.image.gs_base = state_.segments[GS].base;
  out.image.xsave = state_.xsave;
  out.cr2 = state_.cr2;
  if (exit.reason == ExitReason::Halted && read_exception(state_, out)) {
    out.ending = Ending::Exception;
    return;
  }
  out.ending =
      exit.reason == ExitReason::Interrupted || exit.reason == ExitReason::Debug ? Ending::Hang : Ending::Other;
  out.vector = static_cast<std::uint8_t>(exit.reason);
  out.error = 0;
  out.image.rip = state_.rip;
  out.image.rflags = state_.rflags;
}

bool Guest::read_exception(const ArchState& state, Outcome& out) {
  const std::uint64_t after_hlt = state.rip - kernel_base - 1;
  if (after_hlt < handlers_at || after_hlt >= handlers_at + 32 * handler_bytes) return false;
  out.vector = static_cast<std::uint8_t>((after_hlt - handlers_at) / handler_bytes);
  constexpr std::uint32_t with_error = 1u << VECTOR_DF | 1u << VECTOR_TS | 1u << VECTOR_NP | 1u << VECTOR_SS |
                                       1u << VECTOR_GP | 1u << VECTOR_PF | 1u << VECTOR_AC;
  std::uint64_t at = state.gpr[RSP] - kernel_base;
  out.error = 0;
  if ((with_error >> out.vector) & 1) {
    std::uint64_t error = 0;
    if (!memory_.read_value(GuestPhys{at}, error)) return false;
    out.error = static_cast<std::uint32_t>(error);
    at += 8;
  }
  std::uint64_t frame[5];  // RIP, CS, RFLAGS, RSP, SS (SDM 3A 6.14.2)
  if (!memory_.read_value(GuestPhys{at}, frame)) return false;
  out.image.rip = frame[0];
  out.image.rflags = frame[2];
  out.image.gpr[RSP] = frame[3];
  out.image.cs = static_cast<std::uint16_t>(frame[1]);
  out.image.ss = static_cast<std::uint16_t>(frame[4]);
  return true;
}

}  // namespace veneer::fuzz
