// Shadow mode: beginning a trial, taking it back, following it with single instructions, comparing. The run loop calls
// this; vectors are saved by then, unless a function says otherwise.
#include "cpu/bt/shadow.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "base/log.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/listing.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

constexpr unsigned reported_differences = 20;
constexpr std::uint8_t patience_with_devices = 8;  ///< trials of a block that come to devices, before it gets none

constexpr unsigned xstate_bv_at = 512, mxcsr_at = 24, mxcsr_mask_at = 28, x87_pointers_at = 6;

/// The XSAVE image as if every component were in use (SDM 1 13.6): two images of the same registers may differ in which
/// ones the processor took for unused.
std::array<std::uint8_t, xsave_area_bytes> in_full(const std::array<std::uint8_t, xsave_area_bytes>& image,
                                                   const BtEngine& engine) {
  auto full = image;
  std::uint64_t used;
  std::memcpy(&used, full.data() + xstate_bv_at, 8);
  if (!(used & 1)) {
    std::fill(full.begin(), full.begin() + mxcsr_at, std::uint8_t{0});
    full[0] = 0x7f, full[1] = 0x03;  // FCW
    std::fill(full.begin() + 32, full.begin() + 160, std::uint8_t{0});
  }
  if (!(used & 2)) std::fill(full.begin() + 160, full.begin() + 416, std::uint8_t{0});
  for (unsigned i = 2; i < 8; i++)
    if (!((used >> i) & 1) && engine.component_size(i))
      std::fill_n(full.begin() + engine.component_offset(i), engine.component_size(i), std::uint8_t{0});
  std::memset(full.data() + xstate_bv_at, 0, 64);  // the header
  // The last x87 instruction and its operand are found by way of the TLB, which a check empties.
  std::memset(full.data() + x87_pointers_at, 0, mxcsr_at - x87_pointers_at);
  std::memset(full.data() + mxcsr_mask_at, 0, 4);  // XSAVE writes it, power-up images do not have it
  return full;
}

/// Names of what differs, with both values: the trial's, and that of the single instructions.
std::string differences(const ArchState& trial, const ArchState& single, const BtEngine& engine) {
  static constexpr const char* gpr_names[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                              "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
  static constexpr const char* segment_names[] = {"es", "cs", "ss", "ds", "fs", "gs"};
  std::string out;
  auto value = [&](const std::string& name, std::uint64_t x, std::uint64_t y) {
    if (x != y) out += fmt::format("  {} {:#x}, one by one {:#x}\n", name, x, y);
  };
  auto segment = [&](const std::string& name, const Segment& x, const Segment& y) {
    value(name + " selector", x.selector, y.selector);
    value(name + " attributes", x.attributes, y.attributes);
    value(name + " limit", x.limit, y.limit);
    value(name + " base", x.base, y.base);
  };
  for (unsigned i = 0; i < gpr_count; i++) value(gpr_names[i], trial.gpr[i], single.gpr[i]);
  value("rip", trial.rip, single.rip);
  value("rflags", trial.rflags, single.rflags);
  for (unsigned i = 0; i < segment_count; i++) segment(segment_names[i], trial.segments[i], single.segments[i]);
  segment("ldtr", trial.ldtr, single.ldtr);
  segment("tr", trial.tr, single.tr);
  value("gdtr", trial.gdtr.base, single.gdtr.base);
  value("gdtr limit", trial.gdtr.limit, single.gdtr.limit);
  value("idtr", trial.idtr.base, single.idtr.base);
  value("idtr limit", trial.idtr.limit, single.idtr.limit);
  value("cr0", trial.cr0, single.cr0);
  value("cr2", trial.cr2, single.cr2);
  value("cr3", trial.cr3, single.cr3);
  value("cr4", trial.cr4, single.cr4);
  value("efer", trial.efer, single.efer);
  value("dr6", trial.dr[6], single.dr[6]);
  value("dr7", trial.dr[7], single.dr[7]);
  value("kernel_gs_base", trial.kernel_gs_base, single.kernel_gs_base);
  value("halted", trial.halted, single.halted);
  value("interrupt_shadow", trial.interrupt_shadow, single.interrupt_shadow);
  value("nmi_blocked", trial.nmi_blocked, single.nmi_blocked);
  const auto x = in_full(trial.xsave, engine), y = in_full(single.xsave, engine);
  for (unsigned i = 0; i < xsave_area_bytes; i++)
    if (x[i] != y[i]) {
      const unsigned at = i & ~7u;
      std::uint64_t a, b;
      std::memcpy(&a, x.data() + at, 8);
      std::memcpy(&b, y.data() + at, 8);
      value(fmt::format("xsave+{:#x}", at), a, b);
      i = at + 7;
    }
  return out;
}

}  // namespace

Result<void> BtVcpu::create_shadow() {
  shadow_ = std::make_unique<Shadow>();
  shadow_->checks_wanted = engine_.options().shadow_checks;
  return shadow_->pages.create();
}

void BtVcpu::shadow_begin(Block& block, std::uint64_t linear) {
  Shadow& w = *shadow_;
  w.phase = Shadow::Phase::Trial;
  w.aborted = false;
  w.block = &block;
  w.linear = linear;
  w.cache_flushes = engine_.cache().counters().flushes;
  w.line_length = block.instructions;
  for (unsigned i = 0; i < block.instructions; i++) w.line[i] = b->rip + block.side[i].guest_offset - block.offset;
  w.steps = 0;
  w.trial_link = nullptr;
  w.events_before = count.events;
  shadow_keep(w.start);
  w.pages.begin();
  // From here on the first write to any page misses the TLB, and the page is kept before it.
  contexts_.current().flush_tlb(Scope::All);
  remember_pages(linear & ~page_offset_mask, block);
}

void BtVcpu::shadow_end_trial(LinkSite* link, std::uint64_t link_flushes) {
  Shadow& w = *shadow_;
  shadow_keep(w.trial);
  w.trial_link = link && link->ungrouped ? link : nullptr;
  w.trial_link_flushes = link_flushes;
  w.trial_exit = static_cast<ExitKind>(b->exit_kind);
  w.may_stay = w.trial_link || b->exit_kind == static_cast<std::uint64_t>(ExitKind::Poll);
  w.pages.take_back();
  shadow_restore(w.start);
  contexts_.current().flush_tlb(Scope::All);
  if (w.aborted) {
    w.phase = Shadow::Phase::Idle;
    w.skip_next = true;
    w.counters.devices++;
    if (++w.block->shadow_aborts >= patience_with_devices) {
      w.block->once_only = true;
      w.counters.given_up++;
    }
    return;
  }
  w.phase = Shadow::Phase::Follow;
  w.events_before = count.events;
}

void BtVcpu::shadow_keep(Shadow::Kept& kept) const {
  get_state(kept.state);
  kept.own = s;
  kept.x87_loaded = x87_loaded_;
  kept.shutdown = shutdown_;
}

void BtVcpu::shadow_restore(const Shadow::Kept& kept) {
  const ArchState& in = kept.state;
  const bool other_space = s.cr3 != in.cr3 || s.cr0 != in.cr0 || s.cr4 != in.cr4 || s.efer != in.efer;  // a task switch
  s = kept.own;
  x87_loaded_ = kept.x87_loaded;
  for (unsigned i = 0; i < segment_count; i++) b->segment_base[i] = in.segments[i].base;
  b->kernel_gs_base = in.kernel_gs_base;
  b->rip = in.rip;
  set_arith(in.rflags);
  b->interrupt_flag = (in.rflags & RFLAGS_IF) != 0;
  b->direction = (in.rflags & RFLAGS_DF) != 0;
  shutdown_ = kept.shutdown;
  mode_changed();
  for (unsigned i = 0; i < gpr_count; i++) b->gpr[i] = in.gpr[i];
  debug_hits_ = 0;
  pending_debug_ = 0;
  stack_shadow_ = false;
  leave_soon_ = false;
  native_vector_ = -1;
  force_gp_ = false;
  vectors_loaded_ = false;
  if (other_space) select_context();
}

bool BtVcpu::shadow_equal() {
  Shadow& w = *shadow_;
  ArchState now;
  get_state(now);
  return w.trial.shutdown == shutdown_ && differences(w.trial.state, now, engine_).empty() &&
         !w.pages.first_difference();
}

void BtVcpu::shadow_report() {
  Shadow& w = *shadow_;
  if (w.counters.differences++ >= reported_differences) return;
  ArchState now;
  get_state(now);
  std::string text = differences(w.trial.state, now, engine_);
  if (w.trial.shutdown != shutdown_) text += fmt::format("  shutdown {}, one by one {}\n", w.trial.shutdown, shutdown_);
  if (const std::uint8_t* place = w.pages.first_difference()) {
    for (const auto& slot : engine_.memory().slots())
      if (const auto at = static_cast<std::uint64_t>(place - reinterpret_cast<const std::uint8_t*>(slot->host));
          at < slot->size_bytes)
        text += fmt::format("  memory at {:#x} (physical) {:#04x}, one by one {:#04x}\n", (slot->base + at).value,
                            w.pages.trial_byte(place), *place);
  }
  const bool alive = w.cache_flushes == engine_.cache().counters().flushes;
  log_error("shadow: the block at {:#x} does not do what its instructions do, {} of {} run one by one, exit {}{}\n{}{}",
            w.linear, w.steps, w.line_length, static_cast<unsigned>(w.trial_exit),
            w.trial_link ? " to the ungrouped variant" : "", text, alive ? list_block(engine_, *w.block) : "");
}

void BtVcpu::shadow_finish(bool equal) {
  Shadow& w = *shadow_;
  w.phase = Shadow::Phase::Idle;
  w.counters.checked++;
  w.counters.instructions += w.steps;
  if (!equal) shadow_report();
  if (w.cache_flushes == engine_.cache().counters().flushes && w.block->shadow_checks < 255) w.block->shadow_checks++;
}

}  // namespace veneer::cpu::bt
