// The run loop: events, look-up of the next block, entering it, and what happens after it came back. Register-only.
#include <utility>

#include "base/bits.h"
#include "base/flight_recorder.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/stack_access.h"
#include "cpu/bt/stubs.h"
#include "cpu/bt/translate.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {

constexpr std::uint64_t DR6_BS = 1u << 14;

void BtVcpu::kick() noexcept {
  look_.store(true, std::memory_order_relaxed);
  __atomic_store_n(&b->poll, b->pending_bad_poll, __ATOMIC_SEQ_CST);
}

void BtVcpu::request_exit() noexcept {
  exit_requested_.store(true, std::memory_order_seq_cst);
  kick();
}

std::uint64_t BtVcpu::rflags() const {
  return (s.rflags & ~(RFLAGS_ARITH | RFLAGS_IF | RFLAGS_DF)) | RFLAGS_FIXED1 | (b->arith_flags & RFLAGS_ARITH) |
         (b->interrupt_flag << 9) | (b->direction << 10);
}

void BtVcpu::set_rflags(std::uint64_t value) {
  constexpr std::uint64_t known = RFLAGS_ARITH | RFLAGS_TF | RFLAGS_IF | RFLAGS_DF | RFLAGS_IOPL | RFLAGS_NT |
                                  RFLAGS_RF | RFLAGS_VM | RFLAGS_AC | RFLAGS_VIF | RFLAGS_VIP | RFLAGS_ID;
  value = (value & known) | RFLAGS_FIXED1;
  const std::uint64_t changed = (s.rflags ^ value) & (RFLAGS_AC | RFLAGS_VM | RFLAGS_IOPL);
  s.rflags = value;
  set_arith(value);
  b->interrupt_flag = (value >> 9) & 1;
  b->direction = (value >> 10) & 1;
  if (changed) mode_changed();
}

void BtVcpu::set_reg(unsigned n, std::uint64_t value, unsigned bytes) {
  std::uint64_t& r = b->gpr[n];
  switch (bytes) {
    case 1:
      r = (r & ~std::uint64_t{0xff}) | (value & 0xff);
      break;
    case 2:
      r = (r & ~std::uint64_t{0xffff}) | (value & 0xffff);
      break;
    case 4:
      r = value & 0xffffffffu;
      break;
    default:
      r = value;
  }
}

Outcome BtVcpu::fault(std::uint8_t vector) {
  fault_ = Fault{vector, false, 0, 0};
  return Outcome::Fault;
}

Outcome BtVcpu::fault(std::uint8_t vector, std::uint32_t error) {
  fault_ = Fault{vector, true, error, 0};
  return Outcome::Fault;
}

InterruptPort& BtVcpu::interrupts() { return engine_.board().interrupts(index_); }

std::uint64_t BtVcpu::read_tsc() const {
  return (engine_.options().deterministic ? turn_tsc_ + turn_instructions() : __builtin_ia32_rdtsc()) + s.tsc_offset;
}

void BtVcpu::load_gs() const {
  if (running_) asm volatile("wrgsbase %0" : : "r"(contexts_.current().layout));
}

bool BtVcpu::take_events() {
  __atomic_store_n(&b->poll, good_poll_, __ATOMIC_SEQ_CST);
  look_.store(false, std::memory_order_seq_cst);
  if (steal_time_due()) with_vectors_saved([&] { steal_time_measure(); });
  if (map_changed_.load(std::memory_order_relaxed) && map_changed_.exchange(false)) flush_all_contexts();
  InterruptPort& port = interrupts();
  if (s.halted && port.take_unhalt()) s.halted = false;
  if (s.svm.guest || !s.svm.gif) [[unlikely]]
    return take_events_under_svm();
  if (port.nmi_pending() && !s.nmi_blocked && !s.interrupt_shadow) {
    with_vectors_saved([&] { port.take_nmi(); });
    note(flight::Event::Nmi);
    s.nmi_blocked = true;
    s.halted = false;
    flight::record(flight::ring(index_), flight::Event::Nmi, b->rip);
    deliver(Fault{VECTOR_NMI, false, 0, 0}, EventKind::External, b->rip);
    return true;
  }
  if (s.interrupt_shadow && port.nmi_pending()) look_at_events();  // right behind the shadow
  const bool pending = port.interrupt_pending();
  if (pending && b->interrupt_flag && !s.interrupt_shadow) {
    int vector = -1;
    with_vectors_saved([&] {
      if (auto v = port.acknowledge()) vector = *v;
    });
    b->irq_pending = port.interrupt_pending();  // another one may wait for IF to come back
    if (vector >= 0) {
      note(flight::Event::Interrupt, 0, static_cast<std::uint32_t>(vector));
      s.halted = false;
      deliver(Fault{static_cast<std::uint8_t>(vector), false, 0, 0}, EventKind::External, b->rip);
    }
    return vector >= 0;
  }
  b->irq_pending = pending;
  return false;
}

bool BtVcpu::fetch_page(std::uint64_t linear, CodePageId& page) {
  Context& context = contexts_.current();
  const std::uint64_t page_address = linear & ~page_offset_mask;
  const FetchEntry& entry =
      context.fetch[static_cast<unsigned>(mode.regime())][(linear >> page_shift) % Context::fetch_entries];
  if (entry.page == page_address) {
    page = entry.code_page;
    return true;
  }
  Translation t;
  if (!walk(linear, Access::Fetch, cpl_ == 3, false, t)) return false;
  machine::MemorySlot* slot = engine_.memory().find(t.address);
  if (!slot) return raise(VECTOR_UD);  // nobody answers the fetch: all ones, which is an undefined instruction
  page = code_page_id(slot->index, (t.address - slot->base) >> page_shift);
  context.fill_fetch(mode.regime(), page_address, page, {false, t.large, t.global});
  return true;
}

Block* BtVcpu::find_block(std::uint64_t linear) {
  count.lookups++;
  CodePageId page;
  if (!fetch_page(linear, page)) return nullptr;
  const auto offset = static_cast<unsigned>(linear & page_offset_mask);
  Block* block = engine_.cache().find(page, offset, mode);
  if (block && block->straddles) {
    // The tail belongs to another page, whose mapping is checked at each look-up.
    CodePageId second;
    if (!fetch_page((linear & ~page_offset_mask) + page_size, second)) return nullptr;
    if (second != block->second_page) {
      const CodeLockGuard hold(engine_.cache().lock());
      engine_.cache().invalidate(page, offset, 1);
      block = nullptr;
    }
  }
  if (!block) block = translate_at(linear, page);
  if (block && !mode.has(Mode::SINGLE)) remember_pages(linear & ~page_offset_mask, *block);
  return block;
}

void BtVcpu::remember_pages(std::uint64_t address, const Block& block) {
  Context& context = contexts_.current();
  const Regime regime = mode.regime();
  const auto remember = [&](std::uint64_t page, CodePageId id) {
    context.fill_exec(regime, page, engine_.cache().expectation(id), context.fetched_global(regime, page));
  };
  remember(address, block.page);
  if (block.straddles) remember(address + page_size, block.second_page);
}

const std::uint8_t* BtVcpu::cached_code(std::uint64_t linear) const {
  const Context& context = contexts_.current();
  if (context.jump_mode[static_cast<unsigned>(mode.regime())] != mode.bits) return nullptr;
  const JumpEntry& entry = context.jumps(mode.regime()).entry[jump_slot(linear)];
  return entry.negated_address == -linear ? reinterpret_cast<const std::uint8_t*>(entry.code) : nullptr;
}

void BtVcpu::remember_code(std::uint64_t linear, const Block* block) {
  Context& context = contexts_.current();
  std::uint32_t& filled_under = context.jump_mode[static_cast<unsigned>(mode.regime())];
  if (filled_under != mode.bits) {
    context.flush_jumps(mode.regime());
    filled_under = mode.bits;
  }
  const std::uint64_t page = linear & ~page_offset_mask;
  const bool global = context.fetched_global(mode.regime(), page) &&
                      (!block->straddles || context.fetched_global(mode.regime(), page + page_size));
  context.fill_jump(mode.regime(), linear, block->code, global);
}

/// CS ends in this page, or 16-bit IP wraps there: each instruction is looked at.
bool BtVcpu::code_limit_near() const {
  return mode.has(Mode::LIMITED) && static_cast<std::int64_t>(b->rip) > b->code_limit;
}

bool BtVcpu::rip_reachable() const { return code64() ? canonical(b->rip) : b->rip <= s.segments[CS].limit; }

void BtVcpu::check_branch(BranchNote note) {
  if (rip_reachable() || !note.is_branch()) return;
  const std::int32_t bytes = note.stack_bytes();
  const std::uint64_t mask = stack_mask(*this);
  const std::uint64_t sp = reg(RSP);
  // The CALL could write there just now.
  if (note.kept()) write_memory(stack_linear(*this, sp & mask), &b->under_call, static_cast<unsigned>(bytes));
  b->gpr[RSP] = (sp & ~mask) | ((sp + static_cast<std::uint64_t>(std::int64_t{bytes})) & mask);
  b->rip = rip_of(note.offset());
  fault(VECTOR_GP, 0);
  deliver(fault_, EventKind::Exception, b->rip);
}

ExitReason BtVcpu::run_loop(bool single) {
  running_ = true;
  load_gs();
  note(flight::Event::RunEnter);
  auto finish = [&](ExitReason reason) {
    if (reason == ExitReason::Halted) note(flight::Event::Halt);
    note(flight::Event::RunExit, 0, static_cast<std::uint32_t>(reason));
    save_vectors();
    running_ = false;
    return reason;
  };
  LinkSite* link_site = nullptr;
  std::uint64_t link_flushes = 0;
  bool missed = true;
  look_.store(true, std::memory_order_relaxed);
  for (;;) {
    shadow_at_entry_ = false;
    if (shadow_busy()) shadow_turn(link_site, link_flushes);
    const bool following = shadow_busy();
    if (shutdown_) break;
    if (exit_requested_.load(std::memory_order_relaxed) && !s.interrupt_shadow && !following) {
      exit_requested_.store(false);
      return finish(ExitReason::Interrupted);
    }
    if (turn_over() && !s.interrupt_shadow) return finish(ExitReason::Interrupted);
    // Events only when there is a reason to look: a kick, or an interrupt that waited for IF.
    if (!following && (look_.load(std::memory_order_relaxed) || s.halted ||
                       (b->irq_pending && b->interrupt_flag && !s.interrupt_shadow))) {
      if (take_events()) link_site = nullptr;
      // Looked at behind take_events(), which takes a kick for seen.
      if (engine_.stop_gate().wanted(index_)) {
        with_vectors_saved([&] { engine_.stop_gate().acknowledge(index_); });
        look_at_events();
        continue;
      }
      if (shutdown_) continue;
    }
    if (s.halted) return finish(ExitReason::Halted);

    std::uint64_t linear = b->rip;
    if (!code64()) linear = (linear + s.segments[CS].base) & 0xffffffffu;
    if (breakpoint_count_ && !single)
      for (unsigned i = 0; i < breakpoint_count_; i++)
        if (breakpoints_[i] == linear && !resumed_at_breakpoint_) return finish(ExitReason::Debug);
    resumed_at_breakpoint_ = false;

    const bool trap = s.rflags & RFLAGS_TF;
    const bool shadow = s.interrupt_shadow;
    const bool one = following || single || trap || shadow || breakpoint_count_ || debug_armed() || code_limit_near() ||
                     alone_wanted_;
    mode.bits = one ? mode.bits | Mode::SINGLE : mode.bits & ~Mode::SINGLE;
    if (!rip_reachable()) {
      fault(VECTOR_GP, 0);
      deliver(fault_, EventKind::Exception, b->rip);
      if (single) return finish(ExitReason::Debug);
      continue;
    }
    const bool stack_shadow = s.interrupt_shadow && stack_shadow_;
    if (pending_debug_) {
      const std::uint64_t bits = std::exchange(pending_debug_, 0);
      debug_exception(bits, b->rip);
      if (single) return finish(ExitReason::Debug);
      continue;
    }
    if (watch_code_ && !(s.rflags & RFLAGS_RF) && !stack_shadow)
      if (const unsigned hits = instruction_breakpoints(linear)) {
        debug_exception(hits, b->rip);
        if (single) return finish(ExitReason::Debug);
        continue;
      }
    // After a miss the cache has nothing, or a dead block whose entry leads back here.
    const std::uint8_t* code = one || missed ? nullptr : cached_code(linear);
    const bool ungrouped = link_site && link_site->ungrouped;
    if (ungrouped) mode.bits |= Mode::UNGROUPED;
    const Block* alone_block = nullptr;
    if (Block* block = code ? nullptr : find_block(linear)) {
      alone_block = block;
      if (link_site && link_flushes == engine_.cache().counters().flushes) {
        const CodeLockGuard hold(engine_.cache().lock());
        const Block& from = *link_site->owner;
        const bool there = link_site->far() || from.page == block->page;
        if (!from.dead && !block->dead && there &&
            (static_cast<std::uint64_t>(link_site->target) & page_offset_mask) == block->offset &&
            link_site->mode == block->mode.grouped() &&
            (!shadow_ || (shadow_->done_with(from) && shadow_->done_with(*block))))
          engine_.cache().link(*link_site, block, engine_.many());
      }
      mode.bits &= ~Mode::UNGROUPED;
      if (code_limit_near() && b->rip + block->guest_bytes - 1 > s.segments[CS].limit) {
        fault(VECTOR_GP, 0);
        deliver(fault_, EventKind::Exception, b->rip);
        if (single) return finish(ExitReason::Debug);
        continue;
      }
      // Shadow mode wants to see each block come, and links between blocks that it is done with.
      if (!one && !ungrouped && !shadow_) remember_code(linear, block);
      code = block->code;
      if (shadow_) shadow_->next = block;
    } else if (!code) {
      mode.bits &= ~Mode::UNGROUPED;
      if (failed_) return finish(ExitReason::Failed);
      deliver(fault_, EventKind::Exception, b->rip);
      if (single) return finish(ExitReason::Debug);
      continue;
    }
    link_site = nullptr;
    shadow_at_entry_ = shadow;
    s.interrupt_shadow = stack_shadow_ = false;
    const std::uint64_t resume = s.rflags & RFLAGS_RF;
    s.rflags &= ~RFLAGS_RF;
    if (shadow_) shadow_look_at(*shadow_->next, linear, one);
    load_vectors();
    const std::uint64_t events_before = count.events;
    if (!stack_shadow) debug_hits_ = 0;  // those of MOV SS come with the instruction behind it (SDM 3A 6.8.3)
    trap_dropped_ = trap_now_ = false;
    set_arith(b->arith_flags);
    if (returns_dropped_ || shadow_ || returns_mode_ != mode.bits) {
      b->return_sp = b->return_base;
      returns_mode_ = mode.bits;
      returns_dropped_ = false;
    }
    invalidated_at_entry_ = __atomic_load_n(&engine_.cache().counters().invalidated, __ATOMIC_RELAXED);
    bool entered = true;
    if (alone_wanted_ && alone_block) {
      entered = run_alone(alone_block, linear);
    } else {
      const CycleScope inside(engine_.options().measure_time, count.cycles.inside);
      veneer_bt_enter(code, linear);
      engine_.cache().code_has_run();
    }
    set_arith(b->arith_flags);
    if (!entered || alone_wanted_) {
      // Nothing of the instruction is done yet.
      if (shadow) set_interrupt_shadow();
      stack_shadow_ = stack_shadow;
      s.rflags |= resume;
      missed = true;
      continue;
    }

    auto to_rip = [&] {
      if (!code64()) b->rip = (b->rip - s.segments[CS].base) & 0xffffffffu;
    };
    missed = b->exit_kind <= static_cast<std::uint64_t>(ExitKind::Link);
    count.exits[b->exit_kind]++;
    switch (static_cast<ExitKind>(b->exit_kind)) {
      case ExitKind::Lookup:
        to_rip();
        if (b->exit_arg) count.jump_misses++;
        if (b->exit_arg) check_branch(*reinterpret_cast<const BranchNote*>(b->exit_arg));
        break;
      case ExitKind::Link:
        count.links++;
        link_site = engine_.cache().link_asked_for(reinterpret_cast<const void*>(b->exit_arg));
        b->rip = b->page_address + static_cast<std::uint64_t>(std::int64_t{link_site->target});
        to_rip();
        link_flushes = engine_.cache().counters().flushes;
        if (!rip_reachable()) {
          check_branch(link_site->note);
          link_site = nullptr;
        }
        break;
      case ExitKind::Poll:
        count.polls++;
        look_at_events();  // a kick may have been half done when events were last looked at
        break;
      case ExitKind::Resume:
        break;
      case ExitKind::Fault:
        native_vector_ = -1;
        force_gp_ = false;
        if (failed_) return finish(ExitReason::Failed);
        fault_ = Fault{static_cast<std::uint8_t>(b->exit_arg), false, 0, 0};
        deliver(fault_, EventKind::Exception, b->rip);
        break;
    }
    // TF counts as it was before the instruction: a POPF that clears it still traps.
    const bool trapped = ((trap && !trap_dropped_) || trap_now_) && count.events == events_before;
    // Hits behind an event are what MOV SS held back: INT n reached its handler with them (a fault drops them).
    if ((trapped || debug_hits_) && !(s.interrupt_shadow && stack_shadow_)) {
      shadow_at_entry_ = false;
      debug_exception(debug_hits_ | (trapped ? DR6_BS : 0), b->rip);
    }
    if (single && !shutdown_) return finish(ExitReason::Debug);
  }
  return finish(ExitReason::Shutdown);
}

/// Runs a single-instruction block while all others stand still: an operand that crosses pages and may be locked. False
/// when the block went away before they did.
bool BtVcpu::run_alone(const Block* block, std::uint64_t linear) {
  const std::uint64_t flushes = engine_.cache().counters().flushes;
  with_vectors_saved([&] { engine_.stop_gate().stop(index_, ~std::uint64_t{0}); });
  const bool valid = engine_.cache().counters().flushes == flushes && !block->dead;
  if (valid) {
    alone_wanted_ = false;
    alone_ = true;
    load_vectors();
    veneer_bt_enter(block->code, linear);
    engine_.cache().code_has_run();
    alone_ = false;
  }
  with_vectors_saved([&] { engine_.stop_gate().let_go(); });
  return valid;
}

std::uint64_t BtVcpu::callout(const CalloutRecord& record) {
  count.callouts++;
  count.callouts_by_mnemonic[record.mnemonic % VcpuCounters::mnemonics]++;
  b->rip = rip_of(record.offset);  // for the flight recorder
  leave_soon_ = false;
  Outcome outcome = record.function(*this, record);
  // It wrote over translated code, maybe this block's.
  // A kick may be its own doing (WRMSR to the local APIC): what it brings comes right behind it.
  if ((leave_soon_ || kicked()) && outcome == Outcome::Continue) outcome = Outcome::Next;
  switch (outcome) {
    case Outcome::Continue:
      if (!vectors_loaded_) load_vectors();
      return 0;
    case Outcome::Next:
      b->rip = rip_of(record.next_offset);
      break;
    case Outcome::Leave:
      break;
    case Outcome::Fault: {
      const Fault f = fault_;
      deliver(f, EventKind::Exception, rip_of(record.offset));
      break;
    }
  }
  b->exit_kind = static_cast<std::uint64_t>(ExitKind::Resume);
  return 1;
}

}  // namespace veneer::cpu::bt
