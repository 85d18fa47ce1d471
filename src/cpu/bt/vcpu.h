// BtVcpu: one virtual CPU of the binary-translation engine: its run loop and everything that C++ does for it.
//
// Vector and x87 registers stay the guest's while the files built register-only run (docs/engine.md, "The two
// kinds of C++"); whatever else is called goes through with_vectors_saved().
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "base/flight_recorder.h"
#include "cpu/bt/block.h"
#include "cpu/bt/branch_note.h"
#include "cpu/bt/callout.h"
#include "cpu/bt/code_cache.h"
#include "cpu/bt/context.h"
#include "cpu/bt/counters.h"
#include "cpu/bt/shadow.h"
#include "cpu/bt/svm/vmcb.h"
#include "cpu/bt/x87_pointers.h"
#include "cpu/engine.h"
#include "cpu/state.h"

namespace veneer::cpu::bt {

class BtEngine;

/// An exception on its way.
struct Fault {
  std::uint8_t vector = 0;
  bool has_error = false;
  std::uint32_t error = 0;
  std::uint64_t address = 0;  ///< CR2 for #PF
};

enum class Access : std::uint8_t { Read, Write, Fetch };

// Page-fault error code (SDM 3A 4.7)
inline constexpr std::uint32_t PF_PRESENT = 1, PF_WRITE = 2, PF_USER = 4, PF_RESERVED = 8, PF_FETCH = 16;

/// A finished page walk.
struct Translation {
  GuestPhys address;      ///< of the byte asked for
  bool writable = false;  ///< a write would go ahead too (permission, and D is set)
  bool large = false;     ///< came from a 2 MiB, 4 MiB or 1 GiB page
  bool global = false;    ///< G is set, and CR4.PGE
};

/// A signal that arrived in translated code.
struct NativeFault {
  int signal;
  unsigned trap;          ///< the processor's vector
  std::uint64_t address;  ///< faulting address, if the vector has one
};

/// How an event came about (decides the pushed RIP, privilege checks and EXT).
enum class EventKind : std::uint8_t { Exception, External, Software, SoftwareBreakpoint };

class BtVcpu final : public Vcpu {
 public:
  BtVcpu(BtEngine& engine, unsigned index) : engine_(engine), index_(index) {}
  ~BtVcpu() override;
  Result<void> create();

  Exit run() override;
  Exit step() override;
  void kick() noexcept override;
  /// Other memory answers at some addresses now: what was remembered of them goes before the next block. Any thread.
  void forget_memory_map() noexcept {
    map_changed_.store(true, std::memory_order_relaxed);
    kick();
  }
  void request_exit() noexcept override;
  void begin_turn(std::uint64_t instructions, std::uint64_t tsc) override;
  std::uint64_t turn_instructions() const override { return b->credit - turn_start_; }
  /// Deterministic mode: others may go on behind this instruction.
  void end_turn() { turn_ended_ = true; }
  void get_state(ArchState& out) const override;
  void set_state(const ArchState& in) override;
  void move_tsc(std::uint64_t change) override { b->tsc_offset = s.tsc_offset += change; }
  std::optional<GuestPhys> translate(GuestVirt address) const override;
  bool give_back_memory(bool all) override;
  void set_breakpoint(GuestVirt address, bool enabled) override;
  std::string info_jit() const override;
  std::string info_tlb() const override;
  std::vector<CounterGroup> counters() const override;

  // ---- state that callouts work on (public to the files of this folder; nobody else includes this header)
  ArchState s;  ///< system state; general registers, IF, DF and FS/GS base live in `b`
  VcpuBlock* b = nullptr;
  Mode mode;
  Fault fault_;

  std::uint64_t reg(unsigned n) const { return b->gpr[n]; }
  /// Writes 1, 2, 4 (zero-extending) or 8 bytes of a register.
  void set_reg(unsigned n, std::uint64_t value, unsigned bytes);
  std::uint64_t rflags() const;
  /// Sets all of RFLAGS (callers have applied the privilege rules).
  void set_rflags(std::uint64_t value);
  void set_arith(std::uint64_t value) { b->arith_flags = (value & RFLAGS_ARITH) | RFLAGS_FIXED1; }
  unsigned cpl() const { return cpl_; }
  bool code64() const { return mode.has(Mode::CODE64); }
  unsigned iopl() const { return static_cast<unsigned>((s.rflags >> 12) & 3); }
  BtEngine& engine() { return engine_; }
  InterruptPort& interrupts();
  unsigned index() const { return index_; }
  /// For the flight recorder. RIP is that of the last exit or callout.
  void note(flight::Event event, std::uint64_t value = 0, std::uint32_t detail = 0) {
    flight::record(flight::ring(index_), event, b->rip, value, detail);
  }

  // ---- faults: all return false / Outcome::Fault after noting what to deliver
  Outcome fault(std::uint8_t vector);
  Outcome fault(std::uint8_t vector, std::uint32_t error);
  bool raise(std::uint8_t vector, std::uint32_t error) {
    fault(vector, error);
    return false;
  }
  bool raise(std::uint8_t vector) {
    fault(vector);
    return false;
  }

  // ---- memory (page_walk.cc, guest_access.cc, address_spaces.cc)
  bool walk(std::uint64_t address, Access access, bool user, bool smap_override, Translation& out);
  template <bool nested>
  bool walk_once(std::uint64_t address, Access access, bool user, bool smap_override, Translation& out, bool& changed);
  void page_table_written(GuestPhys place, unsigned bytes);
  /// Reads or writes guest-virtual memory at current privilege, or as supervisor (descriptor tables, TSS, stacks).
  bool read_memory(std::uint64_t address, void* out, unsigned size, bool supervisor = false);
  bool write_memory(std::uint64_t address, const void* data, unsigned size, bool supervisor = false);
  template <typename T>
  bool read_value(std::uint64_t address, T& value, bool supervisor = false) {
    return read_memory(address, &value, sizeof value, supervisor);
  }
  template <typename T>
  bool write_value(std::uint64_t address, const T& value, bool supervisor = false) {
    return write_memory(address, &value, sizeof value, supervisor);
  }
  /// Linear address of an operand of `size` bytes; applies the segment base. False (#GP or #SS) when its first byte is
  /// not canonical, or when the segment does not let the access through.
  bool linear_address(const MemoryOperand& operand, std::uint64_t& out, std::uint64_t size, Access access);
  std::uint64_t effective_address(const MemoryOperand& operand) const;
  /// In 64-bit code AMD's processors want the offset that FS or GS is added to canonical by itself.
  bool offset_canonical(unsigned segment, std::uint64_t linear, unsigned size) const;
  std::uint64_t element_wrap(const AccessDescriptor& d, const CalloutRecord& r, unsigned n) const;
  bool end_canonical(std::uint64_t address, unsigned size);
  /// No byte of an access gives #GP or #SS for where it is.
  bool range_reachable(unsigned segment, std::uint64_t address, unsigned size) const;
  bool canonical(std::uint64_t address) const {
    return static_cast<std::int64_t>(address << 16) >> 16 == static_cast<std::int64_t>(address);
  }
  /// One host pointer for an access inside a page, filling the TLB; null for MMIO, ROM writes and code pages
  /// (then *address_out is the physical address) or after a fault (then *faulted).
  HostPtr page_pointer(std::uint64_t address, Access access, bool supervisor, GuestPhys& physical, bool& faulted);
  /// Neither RAM nor ROM is mapped there. A page fault is left for the access itself.
  bool answered_by_device(std::uint64_t address);
  /// #AC when alignment is checked and this operand's is wrong.
  bool check_alignment(std::uint64_t address, unsigned size);
  bool must_be_aligned() const { return mode.has(Mode::ALIGN_CHECK); }
  /// While it lives, C++ accesses give no #AC.
  class AlignmentUnchecked {
   public:
    explicit AlignmentUnchecked(BtVcpu& v) : v_(v), before_(v.mode) { v.mode.bits &= ~Mode::ALIGN_CHECK; }
    ~AlignmentUnchecked() { v_.mode = before_; }
    AlignmentUnchecked(const AlignmentUnchecked&) = delete;
    AlignmentUnchecked& operator=(const AlignmentUnchecked&) = delete;

   private:
    BtVcpu& v_;
    const Mode before_;
  };
  /// #PF when this byte cannot be accessed.
  bool probe(std::uint64_t address, Access access);

  // ---- accesses of translated code that its TLB check did not let through (slow_access.cc); answers: AccessAnswer
  std::uint64_t slow_access(const AccessDescriptor& d);
  std::uint64_t write_back(const AccessDescriptor& d);
  /// Where an operand is: its bytes in the first page, and those behind them.
  struct OperandParts {
    unsigned first_bytes;
    HostPtr host[2] = {};  ///< null: a device's, or a page that must not be written in place
    GuestPhys physical[2] = {};
  };
  bool passes_before_paging(const AccessDescriptor& d, std::uint64_t address, bool misaligned);
  std::uint64_t refuse_access(const AccessDescriptor& d);
  std::uint64_t leave_before(const AccessDescriptor& d, ExitKind kind);
  std::uint64_t group_access(const AccessDescriptor& d, std::uint64_t address);
  std::uint64_t operand_access(const AccessDescriptor& d, std::uint64_t address);
  bool write_in_place(const AccessDescriptor& d, std::uint64_t address, GuestPhys physical);
  std::uint64_t bounce(const AccessDescriptor& d, std::uint64_t address, const OperandParts& parts);
  /// The same two for operands of which a mask leaves only some elements active (masked_access.cc).
  std::uint64_t masked_access(const AccessDescriptor& d, bool misaligned);
  void masked_write_back();

  /// Raw physical write that respects code pages and MMIO; no faults.
  void physical_write(GuestPhys address, const void* data, unsigned size);
  void physical_read(GuestPhys address, void* out, unsigned size);
  void load_cr3(std::uint64_t value, bool keep);
  /// In PAE paging with these control registers: loads the four PDPTEs from where CR3 points. False, and nothing
  /// loaded, when a present one has reserved bits. True outside PAE paging.
  bool load_pdptes(std::uint64_t cr3, std::uint64_t cr0, std::uint64_t cr4);
  void paging_mode_changed();
  /// Translated code reads the TSC itself; it finds the offset and IA32_TSC_AUX in the vCPU block.
  void tsc_changed() {
    b->tsc_offset = s.tsc_offset;
    b->tsc_aux = s.tsc_aux & 0xffffffffu;
  }
  void flush_all_contexts();
  void flush_asid(Scope scope);
  void invalidate_page(std::uint64_t address);
  void select_context();
  /// What is on the return stack must not be returned to: mappings, modes or code changed under it.
  void drop_returns() { returns_dropped_ = true; }
  /// A write hit this page: kill translations of these bytes. Sets leave_soon_ when the running block died.
  void code_written(machine::MemorySlot& slot, std::uint64_t offset, std::uint64_t size);

  // ---- what segments let through, outside 64-bit code (segment_access.cc)
  bool segment_permits(SegReg which, Access access) const;
  /// Whether these bytes are between the segment's ends.
  static bool segment_covers(const Segment& segment, std::uint64_t offset, std::uint64_t size);
  bool segment_allows(SegReg which, std::uint64_t offset, std::uint64_t size, Access access) const;
  /// The same, noting #GP(0) or #SS(0).
  bool check_segment(SegReg which, std::uint64_t offset, std::uint64_t size, Access access);
  /// 4 GiB, readable, writable (CS: of any code type): nothing to check.
  bool flat(SegReg which) const;
  /// Limits in the vCPU block follow the segment registers.
  void limits_changed();

  // ---- segments and modes (segments.cc)
  void mode_changed();
  bool load_segment(SegReg which, std::uint16_t selector);
  bool read_descriptor(std::uint16_t selector, std::uint64_t& low, std::uint64_t& high, bool system,
                       std::uint8_t vector);
  void set_segment(SegReg which, const Segment& value);
  /// Sets the accessed bit of a segment descriptor that is about to be used, in `d` and in its table.
  bool mark_accessed(std::uint16_t selector, std::uint64_t& d);
  bool null_keeps_base() const;
  /// Real or virtual-8086 mode: a selector is a base.
  bool real_segments() const { return !(s.cr0 & CR0_PE) || (s.rflags & RFLAGS_VM); }

  // ---- far transfers (transfers.cc). `next_rip` is that of the instruction behind the one at work.
  Outcome far_jump(std::uint16_t selector, std::uint64_t offset, std::uint64_t next_rip);
  Outcome far_call(std::uint16_t selector, std::uint64_t offset, unsigned operand_bytes, std::uint64_t next_rip);
  Outcome far_return(unsigned operand_bytes, unsigned release_bytes);
  /// After a return to an outer level: data segments it may not use become null (SDM 3A 5.8.6).
  void drop_inner_segments();
  bool real_target(std::uint16_t selector, std::uint64_t offset, Segment& cs);
  /// CS and RIP at once.
  void enter_code(const Segment& cs, std::uint64_t rip);
  struct FrameRules {
    unsigned level;       ///< privilege it is written with
    std::uint32_t error;  ///< error code of #SS
    bool long_frame;      ///< no segment: addresses must be canonical
  };
  /// Pushes a frame, its lowest element first in `values`; moves `sp`. Nothing has changed after a fault.
  bool push_frame(const Segment& ss, std::uint64_t& sp, const std::uint64_t* values, unsigned n, unsigned width,
                  const FrameRules& rules);

  // ---- hardware tasks (tasks.cc)
  enum class TaskCause : std::uint8_t { Jump, Call, Event, Return };
  Outcome enter_task(std::uint16_t selector, std::uint64_t d, TaskCause cause, std::uint64_t return_rip);
  /// False after a fault, which belongs to the new task if task_committed_.
  bool task_switch(std::uint16_t selector, std::uint64_t d, TaskCause cause, std::uint64_t return_rip,
                   std::uint64_t flags, std::uint32_t ext);

  // ---- virtual-8086 mode and PVI (virtual8086.cc)
  /// VIF stands for IF here: CPL 3 above IOPL, with CR4.VME or CR4.PVI.
  bool virtual_interrupts() const;
  bool redirected(std::uint8_t vector, bool& answer);
  Outcome virtual8086_interrupt(std::uint8_t vector, std::uint64_t return_rip);
  /// POPF and IRET under VME: bits of `mask` from `image`, and IF to VIF; #GP where the supervisor has to look.
  bool set_virtual_flags(std::uint64_t image, std::uint64_t mask);
  void set_rip(std::uint64_t rip) { b->rip = rip; }

  // ---- SVM (svm/): `s.svm.guest` between VMRUN and #VMEXIT
  struct GuestExit {
    ExitCode code = ExitCode::INVALID;
    std::uint64_t info1 = 0, info2 = 0;  ///< EXITINFO1, EXITINFO2
    std::uint64_t next_rip = 0;          ///< of an intercepted instruction
    EventField interrupted = {};         ///< the event that was being delivered
  };
  bool intercepts(ExitCode code) const {
    const auto bit = static_cast<std::uint64_t>(code);
    return (s.svm.intercepts[bit / 32] >> (bit % 32)) & 1;
  }
  Outcome enter_guest(std::uint64_t vmcb, std::uint64_t next_rip);
  /// #VMEXIT; the guest's RIP is `rip`.
  void leave_guest(const GuestExit& exit, std::uint64_t rip);
  /// Notes a #VMEXIT as faults are noted; deliver() carries it out.
  bool raise_exit(ExitCode code, std::uint64_t info1, std::uint64_t info2);
  /// A #VMEXIT instead of what was to be delivered, if it is intercepted. `before`: what was being delivered already.
  bool leave_for_event(const Fault& what, EventKind kind, std::uint64_t return_rip, EventField before);
  /// EVENTINJ. `next_rip`: where software interrupts return to.
  void inject_event(EventField event, std::uint64_t next_rip);
  /// Interrupts while a guest runs or GIF is clear. True when the vCPU goes on somewhere else.
  bool take_events_under_svm();
  /// Whether an interrupt from outside would get through now.
  bool interrupts_enabled() const;
  bool guest_state_allowed(const VmcbControl& control, const VmcbSave& save) const;
  void load_controls(const VmcbControl& control);
  void enter_world(std::uint64_t flags);
  void write_exit(VmcbControl& control, const GuestExit& exit);
  GuestExit noted_exit_;
  // Nested paging (svm/nested_walk.cc)
  struct NestedTranslation {
    GuestPhys address;
    bool writable = false;
  };
  /// What a guest-physical address is wanted for.
  enum class NestedUse : std::uint8_t { FinalAddress, PageTable };
  /// From guest-physical to physical. False after noting #VMEXIT(NPF).
  bool nested_walk(std::uint64_t address, Access access, NestedUse use, NestedTranslation& out);
  bool nested_walk_once(std::uint64_t address, Access access, NestedUse use, NestedTranslation& out, bool& changed);
  /// The second half of a translation whose address is guest-physical so far.
  bool nested_page(Access access, Translation& out);

  // ---- events (events.cc)
  /// `injected`: the EVENTINJ that this comes from, so that it is not intercepted; else not valid.
  void deliver(Fault what, EventKind kind, std::uint64_t return_rip, EventField injected = {});
  Outcome interrupt_return(unsigned operand_bytes, std::uint64_t next_rip);  // interrupt_return.cc
  bool shutdown() const { return shutdown_; }
  /// `first` could not be delivered, nor the double fault after it, because of `last`.
  void triple_fault(const Fault& first, const Fault& last) {
    shutdown_ = true;
    crash_ = {first, last};
  }

  // ---- debug registers (debug.cc)
  /// After a change of DR0 to DR3, DR7 or CR4.DE.
  void debug_registers_changed();
  bool debug_armed() const { return watch_code_ || watch_data_ || watch_ports_; }
  bool watching_data() const { return watch_data_; }
  bool watched_page(std::uint64_t address) const;
  /// An instruction touches these bytes: what is armed for them becomes a trap behind it.
  void note_data_access(std::uint64_t address, std::uint64_t size, bool write);
  void note_port_access(std::uint16_t port, unsigned size);
  bool debug_hit() const { return debug_hits_ != 0; }
  /// B0 to B3 of breakpoints on the instruction at this linear address.
  unsigned instruction_breakpoints(std::uint64_t linear) const;
  /// #DB with these bits in DR6.
  void debug_exception(std::uint64_t dr6_bits, std::uint64_t return_rip);
  /// What MOV SS held back joins the #DB of INT1.
  void report_debug_hits() {
    if (debug_hits_) s.dr[6] = (s.dr[6] & ~std::uint64_t{0xf}) | debug_hits_;
    debug_hits_ = 0;
  }
  /// No single-step trap behind this instruction: a SYSCALL that masks TF. Everything else that clears TF traps.
  void drop_trap() { trap_dropped_ = true; }
  /// SYSRET: TF counts as it is behind the instruction, so that stepping over SYSCALL ends where the program goes on.
  void trap_by_new_flags() {
    trap_dropped_ = true;
    trap_now_ = s.rflags & RFLAGS_TF;
  }
  /// MOV SS and POP SS hold interrupts and single-step traps until after the next instruction (SDM 3A 6.8.3).
  void stack_switch_shadow() {
    set_interrupt_shadow();
    stack_shadow_ = true;
    drop_trap();
  }

  // ---- vectors (vectors.cc)
  void save_vectors();
  void load_vectors();
  bool vectors_loaded() const { return vectors_loaded_; }
  template <typename F>
  void with_vectors_saved(F f) {
    save_vectors();
    vectors_are_saved(f);
  }
  /// A function of its own: tools/check_register_only.py stops here.
  template <typename F>
  [[gnu::noinline]] static void vectors_are_saved(F& f) {
    f();
  }

  // ---- x87 pointers (x87_pointers.cc)
  /// What the guest sees of pointers in the host's registers.
  X87Pointers x87_pointers(const HostX87Pointers& host);
  /// The guest loads pointers: what goes into the host's registers instead.
  HostX87Pointers keep_x87_pointers(const X87Pointers& loaded);
  /// Turns the pointers of an FXSAVE image made by the host's processor into the guest's, and the other way round.
  /// `wide`: in the form with 64-bit pointers.
  void export_x87_pointers(std::uint8_t* image, bool wide);
  void import_x87_pointers(std::uint8_t* image, bool wide);
  /// Makes the saved state independent of the code cache.
  void settle_x87_pointers();

  // ---- run loop (run.cc)
  std::uint64_t rip_of(std::uint16_t offset) const {
    const std::uint64_t linear = b->page_address + offset;
    return code64() ? linear : ((linear - s.segments[CS].base) & 0xffffffffu);
  }
  void halt() { s.halted = true; }
  void look_at_events() { look_.store(true, std::memory_order_relaxed); }
  static constexpr std::uint64_t pauses_to_yield = 64;  ///< PAUSEs, with many vCPUs; some microseconds
  /// A check of shadow mode is under way: nothing from outside may get between.
  bool shadow_busy() const { return shadow_ && shadow_->busy(); }
  /// In a trial of shadow mode devices must not be touched: true means that the access is left out.
  bool shadow_keeps_off_device();
  /// A slow path's answer to translated code, or "leave" when shadow mode has nothing to learn from this trial any
  /// more.
  std::uint64_t unless_trial_is_over(std::uint64_t answer) {
    if (!shadow_ || shadow_->phase != Shadow::Phase::Trial || !shadow_->aborted) [[likely]]
      return answer;
    b->exit_kind = static_cast<std::uint64_t>(ExitKind::Resume);
    return 1;
  }
  /// A kick waits: leave at the next instruction boundary.
  bool kicked() const { return !shadow_busy() && __atomic_load_n(&b->poll, __ATOMIC_RELAXED) == b->pending_bad_poll; }
  std::uint64_t read_tsc() const;
  std::uint64_t callout(const CalloutRecord& record);
  /// From the signal handler: what happened at `pc` in translated code. True when handled; may change *pc.
  /// From the signal handler: a push onto the return stack found no room, and shall be repeated at its bottom.
  bool return_stack_full(std::uint64_t address, std::uint64_t pc) const;
  bool native_fault(const NativeFault& what, std::uint64_t& pc, std::uint64_t& flags);
  void set_interrupt_shadow() { s.interrupt_shadow = true; }
  /// MSR_KVM_SYSTEM_TIME(_NEW) or MSR_KVM_WALL_CLOCK(_NEW) was written (pvclock.cc).
  void update_pvclock(std::uint32_t msr, std::uint64_t value);
  /// Steal time (steal_time.cc): around every run, and now and then inside one. Vector registers are saved.
  void steal_time_begin();
  void steal_time_resume();
  void steal_time_end(bool halted);
  void steal_time_measure();
  /// True when the guest has the page and it is old: then steal_time_measure() is due.
  bool steal_time_due() const {
    return (s.kvm_steal_time & 1) && __builtin_ia32_rdtsc() - steal_.updated_tsc > steal_update_cycles;
  }

  /// 4 KiB, 64-aligned: where save areas are made and read.
  std::uint8_t* vector_buffer() { return vector_buffer_; }
  /// The same for XSAVEOPT alone.
  std::uint8_t* optimised_buffer() { return optimised_buffer_; }
  std::uint8_t* bounce_area() { return contexts_.bounce_area(); }
  ContextSet& contexts() { return contexts_; }

 private:
  friend class BtEngine;
  /// run_loop() with what it needs around it: signals come here, time is measured, the exit gets its message.
  Exit run_guest(bool single);
  ExitReason run_loop(bool single);
  std::string describe_crash() const;
  bool take_events();
  // Shadow mode (shadow.cc, shadow_turn.cc)
  Result<void> create_shadow();
  void shadow_turn(LinkSite*& link_site, std::uint64_t& link_flushes);
  bool shadow_follows();
  void shadow_look_at(Block& block, std::uint64_t linear, bool one);
  void shadow_begin(Block& block, std::uint64_t linear);
  void shadow_end_trial(LinkSite* link, std::uint64_t link_flushes);
  void shadow_keep(Shadow::Kept& kept) const;
  void shadow_restore(const Shadow::Kept& kept);
  bool shadow_equal();
  void shadow_report();
  void shadow_finish(bool equal);
  /// The page is about to be written or may be from now on. False: a trial that gets no room to remember it.
  bool shadow_lets_write(HostPtr page);
  Result<void> create_return_stack();
  static constexpr std::uint64_t return_stack_bytes = 64 * KiB;  ///< 4,096 calls deep; then it starts anew
  bool run_alone(const Block* block, std::uint64_t linear);
  Block* find_block(std::uint64_t linear);
  /// The jump cache's answer for an address, as translated code would get it; null when it has none.
  const std::uint8_t* cached_code(std::uint64_t linear) const;
  bool rip_reachable() const;
  bool code_limit_near() const;
  /// After a near branch that led out of known code: #GP at the branch when its target cannot be reached.
  void check_branch(BranchNote note);
  void remember_code(std::uint64_t linear, const Block* block);
  /// Notes in the ExecTable where the pages of a block that may run here are mapped.
  void remember_pages(std::uint64_t address, const Block& block);
  Block* translate_at(std::uint64_t linear, CodePageId page);
  /// Tells --trace translate and perf of a new block.
  void announce_block(const Block& block, std::uint64_t linear);
  void close_page(CodePageId id);
  void make_room_for_code();
  void code_is_gone();
  void replace_state(const ArchState& in);
  bool fetch_page(std::uint64_t linear, CodePageId& page);
  bool memory_pages(std::uint64_t address, unsigned size, Access access, bool supervisor);
  void load_gs() const;
  static void host_x87_pointers_to(const HostX87Pointers& host, std::uint8_t* image);
  bool linear_page_of(const Block& block, std::uint64_t& page);
  bool decode_x87_of(const Block& block, unsigned index, X87Instruction& out);
  bool x87_data_of(Mode block_mode, std::uint64_t page, const X87Instruction& x87, std::uint32_t data, bool walk_for_it,
                   X87Pointers& out);
  bool is_at_host(Regime regime, std::uint64_t linear, std::uint32_t data, bool walk_for_it);
  bool linear_of_host(Regime regime, std::uint32_t data, std::uint64_t& linear) const;
  void find_x87_data(const Block& last, unsigned index, std::uint64_t page, std::uint32_t data, X87Pointers& out);
  bool deliver_long_mode(const Fault& what, EventKind kind, std::uint64_t return_rip);
  bool deliver_protected(const Fault& what, EventKind kind, std::uint64_t return_rip);
  bool deliver_real(const Fault& what, std::uint64_t return_rip);
  bool deliver_to_task(const Fault& what, std::uint16_t selector, std::uint64_t return_rip, std::uint64_t flags,
                       std::uint32_t ext);
  // transfers.cc
  bool read_code_descriptor(std::uint16_t selector, std::uint64_t& d, std::uint8_t vector, std::uint32_t ext);
  bool prepare_code_segment(std::uint16_t selector, std::uint64_t d, Segment& cs);
  bool direct_target(std::uint16_t selector, std::uint64_t d, Segment& cs);
  bool reaches(const Segment& cs, std::uint64_t offset);
  bool inner_stack(unsigned level, std::uint32_t ext, Segment& ss, std::uint64_t& sp);
  bool outer_stack(std::uint16_t selector, unsigned level, bool to64, Segment& ss);
  Outcome through_system_descriptor(std::uint16_t selector, std::uint64_t d, TaskCause cause, std::uint64_t next_rip);
  Outcome through_call_gate(std::uint16_t selector, std::uint64_t d, TaskCause cause, std::uint64_t next_rip);
  Outcome inner_call(std::uint64_t gate, const Segment& cs, std::uint64_t offset, std::uint64_t code_bits,
                     unsigned width, std::uint64_t next_rip);
  // interrupt_return.cc
  std::uint64_t interrupt_return_mask(unsigned operand_bytes) const;
  void unblock_nmi();
  Outcome real_interrupt_return(unsigned operand_bytes, const std::uint64_t* slot, std::uint64_t new_sp);
  Outcome return_to_virtual8086(const std::uint64_t* slot);
  Outcome return_from_task(std::uint64_t next_rip);
  // tasks.cc
  bool set_task_busy(std::uint16_t selector, bool busy);
  bool save_task(std::uint64_t return_rip, std::uint64_t flags);
  bool load_task_segments(const std::uint16_t* selectors, bool vm86, unsigned level, std::uint32_t ext);

  alignas(64) std::uint8_t vector_buffer_[4096] = {};
  alignas(64) std::uint8_t optimised_buffer_[4096] = {};
  BtEngine& engine_;
  unsigned index_;
  std::unique_ptr<Shadow> shadow_;
  ContextSet contexts_;
  std::uint64_t pdptes_[4] = {};  ///< PAE paging: as they were when CR3 was loaded (SDM 3A 4.4.1)
  unsigned cpl_ = 0;
  bool vectors_loaded_ = false;
  bool shutdown_ = false;
  struct {
    Fault first, last;
  } crash_;  ///< of the triple fault
  bool leave_soon_ = false;
  bool running_ = false;  ///< run_loop() is on this vCPU's thread: gs belongs to it
  // A bounced store between slow_access() and write_back().
  struct {
    std::uint64_t address = 0;
    GuestPhys part[2];
    unsigned first_bytes = 0;
    unsigned size = 0;
    bool in_place = false;  ///< ran on the operand itself: only the translations of its bytes are left to do
  } bounce_;
  // The same for a masked one: only these bytes of the operand are written.
  struct {
    std::uint64_t address = 0;
    GuestPhys part[2];
    unsigned first_bytes = 0;
    std::uint64_t bytes = 0;
  } masked_;
  // Where the measurement of steal time stands: host clocks at its last look.
  struct {
    std::uint64_t wall_ns = 0, cpu_ns = 0, updated_tsc = 0;
  } steal_;
  static constexpr std::uint64_t steal_update_cycles = 2'000'000;  ///< less than a millisecond or so
  std::uint64_t bounced_address_ = 0;                              ///< what the bounce buffer was last used for
  X87Pointers x87_loaded_;                                         ///< see HostX87Pointers::loaded
  std::atomic<bool> exit_requested_{false};
  std::atomic<bool> look_{false};
  std::atomic<bool> map_changed_{false};
  std::uint64_t good_poll_ = 0;
  // Deterministic mode: pages that can be read, then some that fault; `credit` of the vCPU block points into the first.
  static constexpr std::uint64_t credit_guard_bytes = 64 * KiB;  ///< more than instructions between two polls
  std::uint64_t credit_end_ = ~std::uint64_t{0} - credit_guard_bytes;
  std::uint64_t turn_start_ = 0, turn_tsc_ = 0;
  bool turn_ended_ = false;
  Result<void> create_credit();
  bool turn_over() const {
    constexpr unsigned poll_bytes = 4;
    return turn_ended_ || b->credit + poll_bytes > credit_end_;
  }
  bool alone_wanted_ = false;               ///< the instruction at RIP asks to run while all others stand still
  bool alone_ = false;                      ///< they do
  std::uint64_t invalidated_at_entry_ = 0;  ///< the cache's count when translated code was entered
  std::uint64_t breakpoints_[64] = {};
  unsigned breakpoint_count_ = 0;
  bool resumed_at_breakpoint_ = false;
  bool failed_ = false;  ///< the host failed under translated code: failure_ says how
  const char* failure_ = "";
  int native_vector_ = -1;             ///< the slow path shall answer this vector: the instruction faulted natively
  std::uint64_t fills_at_giving_ = 0;  ///< count.tlb_fills when memory was last given back
  bool returns_dropped_ = true;
  std::uint32_t returns_mode_ = 0;  ///< the mode that the return stack was filled in
  std::uint64_t return_guard_ = 0;  ///< lowest address of the return stack's mapping: a page that faults
  bool watch_code_ = false, watch_data_ = false, watch_ports_ = false;  ///< kinds of breakpoints armed in DR7
  unsigned debug_hits_ = 0;                                             ///< B0 to B3 met by the instruction under way
  bool trap_dropped_ = false, trap_now_ = false;
  bool task_committed_ = false;      ///< the fault under way came up in the task that was switched to
  bool shadow_at_entry_ = false;     ///< the interrupt shadow that the block under way began in
  bool stack_shadow_ = false;        ///< the interrupt shadow is that of MOV SS: no debug exceptions either
  std::uint64_t pending_debug_ = 0;  ///< bits of DR6 for a #DB before the next instruction
  bool force_gp_ = false;            ///< the slow path shall answer #GP: the access faulted natively (alignment)

 public:
  VcpuCounters count;
};

}  // namespace veneer::cpu::bt
