// Translator: the state of translating one block. Its methods are in emit_*.cc, one concern a file.
//
// Order of work: decode() up to the block's end, find_flag_needs() backwards, then emit() each instruction, then the
// slow paths behind the block's hot code.
#pragma once

#include "cpu/bt/assembler.h"
#include "cpu/bt/branch_note.h"
#include "cpu/bt/encode.h"
#include "cpu/bt/insn.h"
#include "cpu/bt/translate.h"

namespace veneer::cpu::bt {

/// Scratch registers of translated code.
inline constexpr Host T0 = r14, T1 = r15, T2 = r10;
/// Where guest rsp lives.
inline constexpr Host guest_rsp_home = r11;

class Translator {
 public:
  struct Room;
  Translator(BtEngine& engine, const TranslateRequest& request, Room& room);

  Block* translate();

 private:
  static constexpr unsigned max_instructions = 64;
  static constexpr unsigned max_cold = 256;
  static constexpr unsigned max_links = 28;
  static constexpr unsigned max_conditional = 16;  ///< jumps out of a block's middle

  /// Where flags are, and how to get them back.
  struct Flags {
    FlagsAt at = FlagsAt::Hardware;
    const Insn* recipe = nullptr;   ///< instruction whose repetition (or equivalent) makes the flags again
    std::uint32_t recipe_regs = 0;  ///< guest registers that must not have changed for that
    bool image_valid = false;       ///< the saved image holds these flags, wherever else they are
  };

  enum class ColdKind : std::uint8_t { Access, Group, Link, FarLink, CrossPage, Unpaired, OtherTail, NativeFault };
  /// How a place is gone to: Via::PairedCall when the return address is on the return stack.
  enum class Via : std::uint8_t { Jump, PairedCall };
  using Body = void (Translator::*)(const Insn&, bool cold);

  /// A slow path, emitted behind the hot code.
  struct Cold {
    ColdKind kind;
    Assembler::Mark from = nullptr;        ///< rel32 that leads here
    Assembler::Mark from_limit = nullptr;  ///< another one, from the segment's check
    Assembler::Mark resume = nullptr;      ///< where the fast path goes on
    Assembler::Mark done = nullptr;        ///< behind the instruction's body
    const Insn* insn = nullptr;
    Body body = nullptr;  ///< repeated on the bounce buffer for writes
    Flags flags;
    bool preserved = false;  ///< the flag-preserving check was used: rcx is in rcx_save
    AccessDescriptor descriptor{};
    std::int32_t target = 0;
    bool cut = false;     ///< the target is cut to 16 bits
    bool paired = false;  ///< half a pair is on the return stack
    bool to_host = false;
    bool address_lost = false;  ///< T0 is not the address any more: `address` makes it again
    MemoryOperand address;
    unsigned link = 0;
  };

  /// Where a checked operand is: [base + displacement] or [base + index + displacement].
  struct HostOperand {
    Host base = T0;
    int index = T1;
    std::int32_t displacement = 0;
  };

  /// How an access is made.
  struct AccessSpec {
    unsigned size;
    bool write = false;
    bool read = true;
    bool stack = false;
    bool stay = false;
    bool keeps_address = true;  ///< T0 is still the address behind the check; else that may take it
    bool to_host = false;       ///< T0 becomes the host address instead, and T1 is free
  };

  // translator.cc
  bool decode();
  bool decode_one(Insn& insn, unsigned offset);
  bool ends_block(const Insn& insn) const;
  void find_flag_needs();
  void emit_entry();
  void emit_straddle_check();
  void emit(const Insn& insn);
  void emit_cold();
  void emit_block_end();
  void link_to_known_blocks();
  bool gate(Insn& insn) const;

  // emit_flags.cc
  void flags_before_access(const Insn& insn);
  /// The same for instructions that move the stack pointer between their checks.
  void flags_before_stack_access(const Insn& insn);
  /// The instruction changes an operand of the recipe: makes the flags now and forgets it.
  void drop_lost_recipe(const Insn& insn);
  void materialise();
  void settle_flags();
  void emit_rebuild(const Flags& flags);
  void emit_recipe(const Insn& insn);
  void save_image();
  void restore_image();
  void flags_after(const Insn& insn);
  bool flags_need_hardware(const Insn& insn) const;
  static bool recipe_for(const Insn& insn, std::uint32_t& regs);
  unsigned accesses_until_flags_change(const Insn& insn, bool& ends_in_writer) const;

  // emit_memory.cc
  void offset_address(const MemoryOperand& m, Host to, bool wide);
  void effective_address(const MemoryOperand& m);
  void add_segment_base(const MemoryOperand& m);
  unsigned segment_of(const Insn& insn, const AccessSpec& spec) const;
  Cold& check(const Insn& insn, const AccessSpec& spec, Body body);
  bool limit_counts(unsigned segment, bool write) const;
  Assembler::Mark check_limit(unsigned segment, const AccessSpec& spec, bool preserve);
  void finish_access(Cold& cold) { cold.done = a_.here(); }
  void emit_cold_access(Cold& cold);
  /// `insn` may fault natively here: remembers where its flags are, and makes a slow path if they need rebuilding.
  void note_native_fault(const Insn& insn);

  // emit_native.cc
  bool emit_vzero(ZydisMnemonic mnemonic);
  void emit_native(const Insn& insn);
  void native_body(const Insn& insn, bool cold);
  void emit_moffs(const Insn& insn);
  void moffs_body(const Insn& insn, bool cold);
  void emit_bit_string(const Insn& insn);
  void bit_string_body(const Insn& insn, bool cold);
  void emit_operation(const Insn& insn, const HostOperand* memory);
  void emit_high_byte(const Insn& insn, const HostOperand* memory);
  void emit_grouped(const Insn& insn);
  void fold(HostOperand& operand);

  // groups.cc
  void plan_groups();
  HostOperand group_operand(const Insn& insn, const MemoryOperand& m);
  bool plain_operand(const MemoryOperand& m) const;
  void keep_group(int group, Host in);
  HostOperand stack_group_operand(const Insn& insn, std::int32_t displacement);
  void check_group(const Insn& insn, const MemoryOperand& m);
  void emit_cold_group(Cold& cold);
  void emit_lea(const Insn& insn);

  // emit_control.cc
  void emit_jump(const Insn& insn);
  void emit_jcc(const Insn& insn);
  void emit_loop(const Insn& insn);
  void emit_call(const Insn& insn);
  void emit_ret(const Insn& insn);
  enum class Poll : std::uint8_t { Never, Backwards };
  /// `branch` is the instruction that goes there, or null where the block just ends.
  void goto_offset(std::int32_t target, const Insn* branch, Poll when = Poll::Never, Via via = Via::Jump);
  void goto_far_offset(std::int32_t target, const Insn* branch, Via via);
  void goto_cut_offset(std::int32_t target, const Insn& branch);
  bool cuts_target(const Insn& insn) const;
  bool in_this_page(std::int32_t target, const Insn* branch) const;
  void goto_address_in_t0(const Insn* branch, Via via = Via::Jump);
  void goto_paired(const Insn& insn);
  void drop_pair();
  bool pairs_returns() const;
  void emit_return_site(const Insn& insn);
  Assembler::Mark check_mapping(std::int32_t displacement, Assembler::Mark& compared);
  BranchNote note_of(const Insn* branch) const;
  bool keeps_under_call(const Insn& insn) const;
  std::int32_t released_bytes(const Insn& insn) const;
  void add_code_base();
  Assembler::Mark jump_if_count_zero(unsigned width);
  void finish_loop(const Insn& insn, std::int32_t target);
  void address_to_t0(std::int32_t offset);
  void poll();
  void count_instructions(unsigned first);
  std::int32_t branch_target(const Insn& insn) const;
  LinkSite& new_link(Mode mode);
  void ask_for_link(const LinkSite& link);
  void linkable_jump(Assembler::Mark rel32, std::int32_t target, Mode mode);
  void linkable_jump(Assembler::Mark rel32, std::int32_t target) { linkable_jump(rel32, target, mode_.grouped()); }
  void align_rel32(unsigned opcode_bytes);

  // emit_stack.cc
  void emit_push(const Insn& insn);
  void push_body(const Insn& insn, bool cold);
  void emit_pop(const Insn& insn);
  void pop_memory_body(const Insn& insn, bool cold);
  void emit_leave(const Insn& insn);
  void call_body(const Insn& insn, bool cold);
  unsigned stack_operand_bytes(const Insn& insn) const;
  void stack_address(std::int32_t displacement);
  void move_stack(std::int32_t by);

  // emit_system.cc
  bool emit_special(const Insn& insn);
  void emit_callout(const Insn& insn, CalloutFunction function);
  void emit_callout(const Insn& insn, CalloutFunction function, std::int32_t stub);
  void emit_string(const Insn& insn);
  void emit_sti(const Insn& insn);
  void emit_short_inc_dec(const Insn& insn);
  void emit_read_tsc(const Insn& insn);
  void emit_undefined(const Insn& insn);
  void emit_raise(const Insn& insn, std::uint8_t vector);

  // emit_supervisor.cc
  bool emit_supervisor(const Insn& insn);
  bool changes_regime(const Insn& insn) const;
  void emit_change_regime(const Insn& insn);
  bool emit_read_segment(const Insn& insn);

  // registers
  static bool resident(unsigned guest) { return guest != R10 && guest != R11 && guest != R14 && guest != R15; }
  static Host host_of(unsigned guest) { return guest == RSP ? guest_rsp_home : static_cast<Host>(guest); }
  /// The host register that holds a guest register now: its own, or `scratch` after loading it there.
  Host use(unsigned guest, Host scratch) {
    if (resident(guest)) return host_of(guest);
    a_.load_gs(scratch, block_offset_gpr(guest));
    return scratch;
  }
  /// Gives a guest register the value in `from`, all 64 bits.
  void give(unsigned guest, Host from) {
    if (resident(guest))
      a_.mov(host_of(guest), from);
    else
      a_.store_gs(block_offset_gpr(guest), from);
  }
  bool wide_address() const { return mode_.has(Mode::CODE64); }
  std::int32_t tlb_offset(bool write) const;
  std::int32_t addend_offset() const;
  std::int32_t jump_offset() const;
  std::int32_t exec_offset() const;

  BtEngine& engine_;
  CodeCache& cache_;
  const TranslateRequest& request_;
  const Mode mode_;
  Assembler a_;
  Insn* const insns_;
  unsigned count_ = 0, conditional_ = 0;
  bool straddles_ = false;
  bool once_only_ = false;                   ///< shadow mode: the block is one instruction that cannot be run twice
  bool closed_ = false;                      ///< the last instruction left the block
  bool return_in_t2_ = false;                ///< T2 has the return address that a CALL pushed
  int group_in_t0_ = -1, group_in_t1_ = -1;  ///< groups whose slots are in T0 and T1, unless these were written since
  Flags flags_;
  Cold* const cold_;
  unsigned cold_count_ = 0;
  /// Accesses off one base in one page, checked once (docs/engine.md, "Access groups").
  struct Group {
    MemoryOperand key;
    std::uint32_t base_epoch = 0, index_epoch = 0;
    bool write = false, open = true;
    bool by_host = false;            ///< its slot holds the host address of its first byte; else the page's addend
    std::int64_t low = 0, high = 0;  ///< range, as displacements from the base's value at the block's start
    std::uint8_t members = 0, leader = 0, size_max = 0;
    std::int64_t leader_delta = 0;
  };
  static constexpr unsigned max_groups = 8;
  Group groups_[max_groups];
  unsigned group_count_ = 0;
  SideEntry side_[max_instructions];
  LinkSite* links_[max_links];  ///< in the arena
  unsigned link_count_ = 0;
  Assembler::Mark start_ = nullptr, cold_start_ = nullptr;
  Block* block_ = nullptr;
  ZydisDecoder decoder_;
};

/// What a translator works in. It is large, and one serves all of a thread's translations: to make it anew for each
/// block would take longer than some blocks do.
struct Translator::Room {
  Insn insns[max_instructions];
  Cold cold[max_cold];
};

/// The C++ routine that carries out an instruction, or null when there is none.
CalloutFunction callout_for(const Insn& insn);
/// Fills the record a callout gets.
void fill_record(CalloutRecord& record, const Insn& insn);

}  // namespace veneer::cpu::bt
