// Making the engine and its vCPUs; loading and storing the architectural state.
#include <cpuid.h>
#include <fmt/format.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <cstring>

#include "base/assert.h"
#include "base/log.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/listing.h"
#include "cpu/bt/signals.h"
#include "cpu/bt/stubs.h"
#include "cpu/bt/translate.h"
#include "cpu/bt/vcpu.h"
#include "cpu/cpuid_features.h"

namespace veneer::cpu::bt {
namespace {

std::uint64_t monotonic_ns() {
  timespec t;
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(t.tv_nsec);
}

}  // namespace

BtEngine::BtEngine(machine::GuestMemory& memory, Board& board, const CpuidPolicy& cpuid, const EngineOptions& options)
    : memory_(memory),
      board_(board),
      cpuid_(cpuid),
      options_(options),
      gate_(cpuid),
      stop_gate_([](void* self, unsigned index) { static_cast<BtEngine*>(self)->vcpus_[index]->kick(); }, this) {
  stop_gate_.set_delays(options.protocol_delay_us);
}

Result<void> BtEngine::create() {
  constexpr unsigned long HWCAP2_FSGSBASE = 1u << 1;
  if (!(::getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE))
    return Error(
        "this host does not let programs set GS base (FSGSBASE): the translator needs a CPU with x86-64-v3 "
        "and Linux 5.9 or later");
  // With its tables the cache stays within 10% of guest RAM and 64 MiB; what is not used is not populated.
  if (!options_.code_cache_bytes) options_.code_cache_bytes = 31 * MiB + memory_.ram_bytes() / 22;
  // Every instruction is in a block of its own, too; a flush would begin all checks anew.
  if (options_.shadow) options_.code_cache_bytes *= 8;
  TRY_VOID(cache_.create(memory_, options_.code_cache_bytes, options_.perf_map));
  if (options_.perf_map) TRY_VOID(perf_map_.create());
  install_signal_handlers();
  using R = CpuidPolicy::Register;
  amd_ = cpuid_.amd();
  page_1gb_ = has(cpuid_, Feature::PAGE_1GB);
  pse36_ = has(cpuid_, Feature::PSE36);
  null_keeps_base_ = amd_ && !cpuid_.has(0x80000021, 0, R::Eax, 6);  // NullSelectorClearsBase
  // Where the host's standard XSAVE format has each component.
  for (unsigned i = 2; i < 8; i++) {
    unsigned a = 0, bx = 0, c = 0, d = 0;
    __cpuid_count(0xd, i, a, bx, c, d);
    components_[i] = Component{bx, a, (c & 2) != 0};
  }
  alignas(16) std::uint8_t image[512] = {};
  asm volatile("fxsave %0" : "+m"(image));
  std::memcpy(&mxcsr_mask_, image + 28, 4);
  if (!mxcsr_mask_) mxcsr_mask_ = 0xffbf;
  try_x87_pointers();
  start_ns_ = monotonic_ns();
  memory_.set_code_write_listener([this](machine::MemorySlot& slot, std::uint64_t offset, std::uint64_t size) {
    const CodeLockGuard hold(cache_.lock());
    for (std::uint64_t at = offset; at < offset + size;) {
      const std::uint64_t in_page = std::min<std::uint64_t>(page_size - (at & page_offset_mask), offset + size - at);
      cache_.invalidate(code_page_id(slot.index, at >> page_shift), at & page_offset_mask, in_page);
      at += in_page;
    }
  });
  memory_.set_map_listener([this] {
    for (BtVcpu* vcpu : vcpus_)
      if (vcpu) vcpu->forget_memory_map();
  });
  return {};
}

/// Tries what the host's x87 keeps of its pointers.
void BtEngine::try_x87_pointers() {
  constexpr unsigned fcw_at = 0, fsw_at = 2, fip_at = 8;
  // FSW.ES and an unmasked exception: AMD's processors store pointers with FXSAVE only then.
  constexpr std::uint16_t unmasked = 0x340, pending = 0x8084;
  alignas(16) std::uint8_t own[512] = {}, given[512] = {}, taken[512] = {};
  asm volatile("fxsave64 %0" : "+m"(given));
  std::memcpy(given + fcw_at, &unmasked, sizeof unmasked);
  std::memcpy(given + fsw_at, &pending, sizeof pending);
  for (const unsigned bits : {48u, 57u}) {
    const std::uint64_t top = std::uint64_t{1} << (bits - 1);
    std::memcpy(given + fip_at, &top, sizeof top);
    asm volatile("fxsave64 %0; fxrstor64 %2; fxsave64 %1; fxrstor64 %0" : "+m"(own), "+m"(taken) : "m"(given));
    std::uint64_t kept;
    std::memcpy(&kept, taken + fip_at, sizeof kept);
    if (kept != 0 - top) continue;
    x87_pointer_bits_ = bits;
    break;
  }
  std::uint16_t environment[14] = {};
  asm volatile("fxsave64 %0; fninit; fldz; fnstenv %1; fxrstor64 %0" : "+m"(own), "+m"(environment));
  constexpr unsigned selector_at = 8;
  x87_selectors_ = environment[selector_at] != 0;
}

Result<std::unique_ptr<Vcpu>> BtEngine::make_vcpu(unsigned index) {
  if (index >= max_vcpus)
    return Error(fmt::format("the translator runs up to {} virtual CPUs: start the machine with --cpus {}", max_vcpus,
                             max_vcpus));
  if (index > 0 && options_.shadow)
    return Error("shadow mode compares the memory of one virtual CPU: start the machine with --cpus 1");
  if (has(cpuid_, Feature::SVM) && options_.shadow)
    return Error("shadow mode does not know SVM: start the machine without +svm");
  auto vcpu = std::make_unique<BtVcpu>(*this, index);
  TRY_VOID(vcpu->create());
  return std::unique_ptr<Vcpu>(std::move(vcpu));
}

/// A page that faults, then the stack, its bottom at the upper end: host address and guest address of the pair that a
/// RET finds when there is none.
Result<void> BtVcpu::create_return_stack() {
  void* region =
      ::mmap(nullptr, page_size + return_stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (region == MAP_FAILED || ::mprotect(region, page_size, PROT_NONE) != 0)
    return Error::from_errno("mapping the return stack", errno);
  return_guard_ = reinterpret_cast<std::uint64_t>(region);
  b->return_base = return_guard_ + page_size + return_stack_bytes - 16;
  const std::uint64_t bottom[2] = {reinterpret_cast<std::uint64_t>(veneer_bt_stub_bottom), 0};
  std::memcpy(reinterpret_cast<void*>(b->return_base), bottom, sizeof bottom);
  return {};
}

Result<void> BtVcpu::create_credit() {
  constexpr std::uint64_t bytes = most_turn_instructions + credit_guard_bytes;
  void* pages = ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (pages == MAP_FAILED ||
      ::mprotect(static_cast<char*>(pages) + most_turn_instructions, credit_guard_bytes, PROT_NONE) != 0)
    return Error::from_errno("mapping the credit pages", errno);
  credit_end_ = reinterpret_cast<std::uint64_t>(pages) + most_turn_instructions;
  begin_turn(most_turn_instructions, 0);
  return {};
}

void BtVcpu::begin_turn(std::uint64_t instructions, std::uint64_t tsc) {
  turn_start_ = b->credit = credit_end_ - std::clamp<std::uint64_t>(instructions, 16, most_turn_instructions);
  turn_tsc_ = tsc;
  turn_ended_ = false;
  exit_requested_.store(false);  // whoever gives turns knows
}

void BtEngine::add_vcpu(unsigned index, BtVcpu* vcpu) {
  VENEER_ASSERT(!vcpus_[index]);
  vcpus_[index] = vcpu;
  vcpu_count_++;
}

void BtEngine::remove_vcpu(unsigned index) {
  vcpus_[index] = nullptr;
  vcpu_count_--;
}

BtVcpu::~BtVcpu() {
  if (engine_.vcpu(index_) == this) engine_.remove_vcpu(index_);
  if (return_guard_) ::munmap(reinterpret_cast<void*>(return_guard_), page_size + return_stack_bytes);
  if (engine_.options().deterministic)
    ::munmap(reinterpret_cast<void*>(credit_end_ - most_turn_instructions),
             most_turn_instructions + credit_guard_bytes);
  if (good_poll_) ::munmap(reinterpret_cast<void*>(good_poll_), 2 * page_size);
}

Result<void> BtVcpu::create() {
  TRY_VOID(contexts_.create());
  b = &contexts_.block();
  // Two pages: one to read through, one that faults.
  void* pages = ::mmap(nullptr, 2 * page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED || ::mprotect(static_cast<char*>(pages) + page_size, page_size, PROT_NONE) != 0)
    return Error::from_errno("mapping the poll pages", errno);
  good_poll_ = reinterpret_cast<std::uint64_t>(pages);
  b->pending_bad_poll = good_poll_ + page_size;
  b->poll = good_poll_;
  b->state = reinterpret_cast<std::uint64_t>(&s);
  b->mode = reinterpret_cast<std::uint64_t>(&mode.bits);
  TRY_VOID(create_return_stack());
  b->stub_lookup = reinterpret_cast<std::uint64_t>(veneer_bt_stub_lookup);
  b->stub_branch = reinterpret_cast<std::uint64_t>(veneer_bt_stub_branch);
  b->stub_link = reinterpret_cast<std::uint64_t>(veneer_bt_stub_link);
  b->stub_exit = reinterpret_cast<std::uint64_t>(veneer_bt_stub_exit);
  b->stub_memory = reinterpret_cast<std::uint64_t>(veneer_bt_stub_memory);
  b->stub_group = reinterpret_cast<std::uint64_t>(veneer_bt_stub_group);
  b->stub_writeback = reinterpret_cast<std::uint64_t>(veneer_bt_stub_writeback);
  b->stub_callout = reinterpret_cast<std::uint64_t>(veneer_bt_stub_callout);
  const std::uint8_t* const stos[] = {veneer_bt_stub_stos_0, veneer_bt_stub_stos_1, veneer_bt_stub_stos_2,
                                      veneer_bt_stub_stos_3};
  const std::uint8_t* const movs[] = {veneer_bt_stub_movs_0, veneer_bt_stub_movs_1, veneer_bt_stub_movs_2,
                                      veneer_bt_stub_movs_3};
  for (unsigned i = 0; i < 4; i++) {
    b->stub_stos[i] = reinterpret_cast<std::uint64_t>(stos[i]);
    b->stub_movs[i] = reinterpret_cast<std::uint64_t>(movs[i]);
  }
  b->self = reinterpret_cast<std::uint64_t>(this);
  b->fn_memory = reinterpret_cast<std::uint64_t>(&entry_memory);
  b->fn_writeback = reinterpret_cast<std::uint64_t>(&entry_writeback);
  b->fn_callout = reinterpret_cast<std::uint64_t>(&entry_callout);
  if (engine_.options().deterministic) TRY_VOID(create_credit());
  if (engine_.options().shadow) TRY_VOID(create_shadow());
  ArchState power_up;
  reset_state(power_up);
  set_state(power_up);
  engine_.add_vcpu(index_, this);
  return {};
}

void BtVcpu::get_state(ArchState& out) const {
  out = s;
  for (unsigned i = 0; i < gpr_count; i++) out.gpr[i] = b->gpr[i];
  out.rip = b->rip;
  out.rflags = rflags();
  out.segments[FS].base = b->segment_base[FS];
  out.segments[GS].base = b->segment_base[GS];
  out.kernel_gs_base = b->kernel_gs_base;
  // Looking an address up changes nothing that software sees.
  constexpr unsigned xstate_bv_at = 512;
  if (out.xsave[xstate_bv_at] & 1) const_cast<BtVcpu*>(this)->export_x87_pointers(out.xsave.data(), true);
}

void BtVcpu::set_state(const ArchState& in) {
  // Others change the TLB of a vCPU that is outside.
  engine_.stop_gate().enter(index_);
  replace_state(in);
  engine_.stop_gate().leave(index_);
}

void BtVcpu::replace_state(const ArchState& in) {
  s = in;
  for (unsigned i = 0; i < gpr_count; i++) b->gpr[i] = in.gpr[i];
  b->rip = in.rip;
  for (unsigned i = 0; i < segment_count; i++) b->segment_base[i] = in.segments[i].base;
  b->kernel_gs_base = in.kernel_gs_base;
  tsc_changed();
  b->irq_pending = 0;
  b->page_address = 0;
  shutdown_ = false;
  set_rflags(in.rflags);
  mode_changed();
  debug_registers_changed();
  flush_all_contexts();
  load_pdptes(s.cr3, s.cr0, s.cr4);  // a state does not carry them: they are what memory holds
  vectors_loaded_ = false;
  import_x87_pointers(s.xsave.data(), true);
  select_context();  // gs is loaded again when run() starts
}

Exit BtVcpu::run() {
  if (!count.first_run_ns) count.first_run_ns = monotonic_ns();
  return run_guest(false);
}

Exit BtVcpu::step() { return run_guest(true); }

Exit BtVcpu::run_guest(bool single) {
  const CycleScope running(engine_.options().measure_time, count.cycles.running);
  const ThreadScope thread(*this);
  steal_time_begin();
  engine_.stop_gate().enter(index_);
  steal_time_resume();
  Exit exit{run_loop(single), {}, false};
  exit.interrupts_enabled = interrupts_enabled();
  engine_.stop_gate().leave(index_);
  steal_time_end(exit.reason == ExitReason::Halted);
  if (exit.reason == ExitReason::Failed) exit.message = failure_;
  if (exit.reason == ExitReason::Shutdown) exit.message = describe_crash();
  return exit;
}

std::optional<GuestPhys> BtVcpu::translate(GuestVirt address) const {
  // A walk that leaves accessed bits alone would be nicer; a debugger's read sets them as a real one would not.
  auto* self = const_cast<BtVcpu*>(this);
  const Fault kept = fault_;
  Translation t;
  const bool ok = self->walk(address.value, Access::Read, false, true, t);
  self->fault_ = kept;
  if (!ok) return std::nullopt;
  return t.address;
}

void BtVcpu::set_breakpoint(GuestVirt address, bool enabled) {
  for (unsigned i = 0; i < breakpoint_count_; i++)
    if (breakpoints_[i] == address.value) {
      if (!enabled) breakpoints_[i] = breakpoints_[--breakpoint_count_];
      return;
    }
  if (enabled && breakpoint_count_ < std::size(breakpoints_)) breakpoints_[breakpoint_count_++] = address.value;
}

void BtVcpu::announce_block(const Block& block, std::uint64_t linear) {
  VENEER_TRACE(Translate, "guest {:#x}\n{}", linear, list_block(engine_, block));
  engine_.perf_map().add(block, linear);
}

/// Nobody writes to this page any more without announcing it (traps.md 13, docs/smp.md).
void BtVcpu::close_page(CodePageId id) {
  CodeCache& cache = engine_.cache();
  const HostPtr bytes =
      engine_.memory().slots()[id >> 40]->host + ((id & ((std::uint64_t{1} << 40) - 1)) << page_shift);
  const std::uint64_t self = std::uint64_t{1} << index_;
  std::uint64_t writers = 0, stopped = self;
  auto closed = [&] {
    const CodeLockGuard hold(cache.lock());
    if (cache.is_closed(id)) return true;
    writers = cache.close_page(id) & (engine_.other_vcpus(index_) | self);
    if (writers & ~stopped) return false;
    engine_.for_each_vcpu(writers,
                          [&](BtVcpu& v) { v.contexts_.for_each([&](Context& c) { c.drop_writes_to(bytes); }); });
    cache.page_closed(id);
    return true;
  };
  while (!closed()) {
    stopped = self | writers;
    const StopGate::Stopped stop(engine_.stop_gate(), index_, stopped);
    if (closed()) return;  // else a flush came in between, and others wrote since
    stopped = self;
  }
}

Block* BtVcpu::translate_at(std::uint64_t linear, CodePageId page) {
  const CycleScope scope(engine_.options().measure_time, count.cycles.translation);
  Block* block = nullptr;
  with_vectors_saved([&] {
    CodeCache& cache = engine_.cache();
    auto bytes_of = [&](CodePageId id) {
      return engine_.memory().slots()[id >> 40]->host + ((id & ((std::uint64_t{1} << 40) - 1)) << page_shift);
    };
    note(flight::Event::Translate, linear);
    TranslateRequest request{page, bytes_of(page), 0, nullptr, static_cast<std::uint16_t>(linear & page_offset_mask),
                             mode};
    // All that stops others happens without the lock, so that by the time it is held things may be undone again.
    for (;;) {
      close_page(page);  // before its bytes are read
      if (request.second_bytes) close_page(request.second_page);
      bool full, open;
      {
        const CodeLockGuard hold(cache.lock());
        full = cache.nearly_full();
        open = !cache.is_closed(page) || (request.second_bytes && !cache.is_closed(request.second_page));
        if (!full && !open) {
          block = cache.find_covered(page, request.offset, mode);  // another vCPU's work
          if (block && block->straddles && block->second_page != request.second_page) block = nullptr;
          if (block) return;
          block = bt::translate(engine_, request);
        }
      }
      if (block) return announce_block(*block, linear);
      if (full) make_room_for_code();
      if (full || open) continue;
      // The instruction reaches into the next page. A fault is noted.
      if (request.second_bytes || !fetch_page((linear & ~page_offset_mask) + page_size, request.second_page)) return;
      request.second_bytes = bytes_of(request.second_page);
    }
  });
  return block;
}

std::string BtVcpu::describe_crash() const {
  static constexpr const char* names[] = {"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "9",   "#TS",
                                          "#NP", "#SS", "#GP", "#PF", "15",  "#MF", "#AC", "#MC", "#XM", "#VE", "#CP"};
  auto name = [](const Fault& f) {
    std::string text = f.vector < std::size(names) ? names[f.vector] : fmt::format("interrupt {:#x}", f.vector);
    if (f.has_error) text += fmt::format("({:#x})", f.error);
    if (f.vector == VECTOR_PF) text += fmt::format(" at {:#x}", f.address);
    return text;
  };
  return fmt::format("{} at {:x}:{:x}, and no handler for it: {}; CR0 {:x}, CR3 {:x}, CR4 {:x}, IDT {:x} limit {:x}",
                     name(crash_.first), s.segments[CS].selector, b->rip, name(crash_.last), s.cr0, s.cr3, s.cr4,
                     s.idtr.base, s.idtr.limit);
}

std::string BtVcpu::info_jit() const {
  const CodeCache& cache = const_cast<BtEngine&>(engine_).cache();
  const auto& c = cache.counters();
  return fmt::format(
      "code cache      {} of {} KiB, tables {} of {} KiB\n"
      "blocks          {} translated, {} invalidated, {} instructions, {} evicted in {} rounds\n"
      "links           {}\n"
      "look-ups        {}\n"
      "slow accesses   {} ({} TLB fills, {} bounced)\n"
      "callouts        {}\n"
      "events          {}\n"
      "polls           {}\n"
      "code writes     {}\n"
      "context loads   {}\n"
      "native faults   {}\n",
      cache.used_bytes() / 1024, cache.capacity_bytes() / 1024, cache.arena_used_bytes() / 1024,
      cache.arena_capacity_bytes() / 1024, c.blocks, c.invalidated, c.instructions, c.evicted, c.flushes, c.links,
      count.lookups, count.slow_accesses, count.tlb_fills, count.bounces, count.callouts, count.events, count.polls,
      count.code_writes, count.context_switches, count.native_faults);
}

std::string BtVcpu::info_tlb() const {
  std::string text;
  auto& contexts = const_cast<ContextSet&>(contexts_);
  contexts.for_each([&](Context& c) {
    text += fmt::format("context {:#x}{}:", c.tag, &c == &contexts.current() ? " (current)" : "");
    for (unsigned r = 0; r < regime_count; r++)
      text += fmt::format(" {} {} filled",
                          r == 0   ? "supervisor"
                          : r == 1 ? "user"
                                   : "override",
                          c.tlb_fills[r].count());
    text += '\n';
  });
  return text;
}

}  // namespace veneer::cpu::bt

namespace veneer::cpu {

Result<std::unique_ptr<Engine>> make_bt_engine(machine::GuestMemory& memory, Board& board, const CpuidPolicy& cpuid,
                                               const EngineOptions& options) {
  auto engine = std::make_unique<bt::BtEngine>(memory, board, cpuid, options);
  TRY_VOID(engine->create());
  return std::unique_ptr<Engine>(std::move(engine));
}

}  // namespace veneer::cpu
