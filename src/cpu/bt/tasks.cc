// Hardware task switching: jumps, calls, events and IRET that lead to a TSS (SDM 3A chapter 7). Register-only.
//
// Faults up to the commit belong to the old task, at the instruction that switches; those after it, from loading what
// the new TSS names, to the new task at its first instruction (SDM 3A 7.3).
#include "cpu/bt/descriptor.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

// SDM 3A figures 7-2 and 7-10. Segment selectors stand in the order of their numbers.
struct TssLayout {
  unsigned ip, flags, gpr, selectors, selector_step, ldt, bytes, register_bytes, selector_count;
};
constexpr TssLayout layout32{0x20, 0x24, 0x28, 0x48, 4, 0x60, 0x68, 4, 6};
constexpr TssLayout layout16{0x0e, 0x10, 0x12, 0x22, 2, 0x2a, 0x2c, 2, 4};
constexpr unsigned tss_cr3 = 0x1c, tss_debug_trap = 0x64;
constexpr std::uint64_t DR6_BT = 1u << 15;
constexpr std::uint64_t DR7_LOCAL = 0x155;  ///< L0 to L3 and LE

const TssLayout& layout_of(const Segment& tss) { return tss.attributes & TYPE_WIDE ? layout32 : layout16; }

struct TssImage {
  std::uint8_t bytes[layout32.bytes] = {};

  std::uint32_t get(unsigned at, unsigned size) const {
    std::uint32_t value = 0;
    for (unsigned i = 0; i < size; i++) value |= std::uint32_t{bytes[at + i]} << (8 * i);
    return value;
  }
  void put(unsigned at, std::uint64_t value, unsigned size) {
    for (unsigned i = 0; i < size; i++) bytes[at + i] = static_cast<std::uint8_t>(value >> (8 * i));
  }
};

}  // namespace

Outcome BtVcpu::enter_task(std::uint16_t selector, std::uint64_t d, TaskCause cause, std::uint64_t return_rip) {
  if (task_switch(selector, d, cause, return_rip, rflags(), 0)) return Outcome::Leave;
  if (!task_committed_) return Outcome::Fault;
  deliver(fault_, EventKind::Exception, b->rip);
  return Outcome::Leave;
}

bool BtVcpu::set_task_busy(std::uint16_t selector, bool busy) {
  const std::uint64_t at = s.gdtr.base + (selector & 0xfff8u) + 5;
  std::uint8_t byte5;
  if (!read_value(at, byte5, true)) return false;
  byte5 = static_cast<std::uint8_t>(busy ? byte5 | TYPE_BUSY : byte5 & ~TYPE_BUSY);
  return write_value(at, byte5, true);
}

/// The old task's registers go to its TSS; what the link and the CR3 fields hold stays.
bool BtVcpu::save_task(std::uint64_t return_rip, std::uint64_t flags) {
  const TssLayout& l = layout_of(s.tr);
  if (s.tr.limit < l.selectors + l.selector_count * l.selector_step - 1)
    return raise(VECTOR_TS, selector_error(s.tr.selector));
  TssImage image;
  image.put(l.ip, return_rip, l.register_bytes);
  image.put(l.flags, flags, l.register_bytes);
  for (unsigned i = 0; i < 8; i++) image.put(l.gpr + i * l.register_bytes, reg(i), l.register_bytes);
  if (!write_memory(s.tr.base + l.ip, image.bytes + l.ip, l.selectors - l.ip, true)) return false;
  for (unsigned i = 0; i < l.selector_count; i++)
    if (!write_value(s.tr.base + l.selectors + i * l.selector_step, s.segments[i].selector, true)) return false;
  return true;
}

bool BtVcpu::task_switch(std::uint16_t selector, std::uint64_t d, TaskCause cause, std::uint64_t return_rip,
                         std::uint64_t flags, std::uint32_t ext) {
  task_committed_ = false;
  const Descriptor desc{d};
  const std::uint32_t error = selector_error(selector) + ext;
  const std::uint8_t wrong = cause == TaskCause::Return ? VECTOR_TS : VECTOR_GP;
  const unsigned wanted = cause == TaskCause::Return ? TYPE_TSS16_BUSY : TYPE_TSS16;
  if (desc.segment() || (desc.type() & ~TYPE_WIDE) != wanted) return raise(wrong, error);
  if (!desc.present()) return raise(VECTOR_NP, error);
  Segment next = unpack_descriptor(selector, d);
  const TssLayout& l = layout_of(next);
  const bool wide = next.attributes & TYPE_WIDE;
  if (next.limit < l.bytes - 1) return raise(VECTOR_TS, error);
  TssImage image;
  if (!read_memory(next.base, image.bytes, l.bytes, true)) return false;
  const bool nests = cause == TaskCause::Call || cause == TaskCause::Event;
  const std::uint16_t old_selector = s.tr.selector;
  if (cause == TaskCause::Return) flags &= ~RFLAGS_NT;
  if (!save_task(return_rip, flags)) return false;
  if (!nests && !set_task_busy(old_selector, false)) return false;
  if (nests && !write_value(next.base, old_selector, true)) return false;
  if (cause != TaskCause::Return && !set_task_busy(selector, true)) return false;

  // Committed: from here on everything is the new task's.
  task_committed_ = true;
  drop_trap();
  next.attributes |= TYPE_BUSY;
  s.tr = next;
  s.cr0 |= CR0_TS;
  if (s.dr[7] & DR7_LOCAL) {
    s.dr[7] &= ~DR7_LOCAL;
    debug_registers_changed();
  }
  // SDM 3A 4.4.1: PDPTEs with reserved bits are not loaded, and make the switch end in #GP.
  bool pdptes_loaded = true;
  if (wide && (s.cr0 & CR0_PG)) {
    pdptes_loaded = load_pdptes(image.get(tss_cr3, 4), s.cr0, s.cr4);
    load_cr3(image.get(tss_cr3, 4), false);
  }
  b->rip = image.get(l.ip, l.register_bytes);
  std::uint64_t new_flags = image.get(l.flags, l.register_bytes);
  if (nests) new_flags |= RFLAGS_NT;
  for (unsigned i = 0; i < 8; i++) b->gpr[i] = image.get(l.gpr + i * l.register_bytes, l.register_bytes);
  std::uint16_t selectors[segment_count] = {};
  for (unsigned i = 0; i < l.selector_count; i++)
    selectors[i] = static_cast<std::uint16_t>(image.get(l.selectors + i * l.selector_step, 2));
  const bool vm86 = new_flags & RFLAGS_VM;
  for (unsigned i = 0; i < segment_count; i++) {
    Segment g;
    g.selector = selectors[i];
    set_segment(static_cast<SegReg>(i), vm86 ? real_mode_segment(g.selector, 0xf3) : g);
  }
  const unsigned level = vm86 ? 3 : selectors[CS] & 3u;
  if (!vm86) s.segments[SS].attributes = static_cast<std::uint16_t>(level << 5);
  s.ldtr = Segment{};
  s.ldtr.selector = static_cast<std::uint16_t>(image.get(l.ldt, 2));
  set_rflags(new_flags);
  mode_changed();
  if (wide && (image.bytes[tss_debug_trap] & 1)) pending_debug_ |= DR6_BT;
  const bool ok = (pdptes_loaded || raise(VECTOR_GP, 0)) && load_task_segments(selectors, vm86, level, ext);
  mode_changed();
  return ok;
}

bool BtVcpu::load_task_segments(const std::uint16_t* selectors, bool vm86, unsigned level, std::uint32_t ext) {
  auto read = [&](std::uint16_t selector, std::uint64_t& d) {
    std::uint64_t high;
    if (read_descriptor(selector, d, high, false, VECTOR_TS)) return true;
    if (fault_.vector == VECTOR_TS) fault_.error |= ext;
    return false;
  };
  std::uint64_t d;
  if (const std::uint16_t ldt = s.ldtr.selector; selector_error(ldt)) {
    const std::uint32_t error = selector_error(ldt) + ext;
    if (ldt & 4) return raise(VECTOR_TS, error);
    if (!read(ldt, d)) return false;
    const Descriptor desc{d};
    if (desc.segment() || desc.type() != TYPE_LDT || !desc.present()) return raise(VECTOR_TS, error);
    s.ldtr = unpack_descriptor(ldt, d);
  }
  if (vm86) return true;

  const std::uint32_t cs_error = selector_error(selectors[CS]) + ext;
  if (!selector_error(selectors[CS])) return raise(VECTOR_TS, cs_error);
  if (!read(selectors[CS], d)) return false;
  const Descriptor code{d};
  if (!code.code() || (code.conforming() ? code.dpl() > level : code.dpl() != level)) return raise(VECTOR_TS, cs_error);
  if (!code.present()) return raise(VECTOR_NP, cs_error);
  if (!mark_accessed(selectors[CS], d)) return false;
  set_segment(CS, unpack_descriptor(selectors[CS], d));

  const std::uint32_t ss_error = selector_error(selectors[SS]) + ext;
  if (!selector_error(selectors[SS])) return raise(VECTOR_TS, ss_error);
  if (!read(selectors[SS], d)) return false;
  const Descriptor stack{d};
  if (!stack.writable_data() || stack.dpl() != level || (selectors[SS] & 3u) != level)
    return raise(VECTOR_TS, ss_error);
  if (!stack.present()) return raise(VECTOR_SS, ss_error);
  if (!mark_accessed(selectors[SS], d)) return false;
  set_segment(SS, unpack_descriptor(selectors[SS], d));

  for (const SegReg which : {DS, ES, FS, GS}) {
    const std::uint16_t selector = selectors[which];
    const std::uint32_t error = selector_error(selector) + ext;
    if (!selector_error(selector)) continue;
    if (!read(selector, d)) return false;
    const Descriptor data{d};
    const bool readable = data.segment() && (!data.code() || (data.type() & TYPE_WRITE_READ));
    const bool allowed = data.conforming() || (data.dpl() >= level && data.dpl() >= (selector & 3u));
    if (!readable || !allowed) return raise(VECTOR_TS, error);
    if (!data.present()) return raise(VECTOR_NP, error);
    if (!mark_accessed(selector, d)) return false;
    set_segment(which, unpack_descriptor(selector, d));
  }
  return true;
}

}  // namespace veneer::cpu::bt
