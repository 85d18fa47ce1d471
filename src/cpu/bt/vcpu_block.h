// The vCPU block: what translated code reaches through gs, and the tables behind it (docs/engine.md, "Contexts").
//
// One memfd page range holds the block; every TLB context maps it in front of its own tables, so that
// gs:[constant] reaches both, and changing the context is one WRGSBASE.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cpu/state.h"

namespace veneer::cpu::bt {

/// Slots of the software TLB and of the jump cache, indexed by 16 address bits (a MOVZX is the whole hash).
inline constexpr unsigned table_slots = 65536;

/// Which accesses a TLB table answers for.
enum class Regime : unsigned {
  Supervisor,  ///< CPL 0-2 with SMAP in force: user pages never match
  User,        ///< CPL 3
  Override,    ///< CPL 0-2 without SMAP, or with RFLAGS.AC set
  count
};
inline constexpr unsigned regime_count = static_cast<unsigned>(Regime::count);

/// One table of the software TLB. A zero tag is invalid in every slot but 0, since page 0 belongs to slot 0 only;
/// so fresh zero pages are an empty table once slot 0 is set to `invalid_tag`.
struct TlbTable {
  std::uint64_t read_tag[table_slots];   ///< minus the page's address, when reads may go ahead
  std::uint64_t write_tag[table_slots];  ///< the same for writes
  std::uint64_t addend[table_slots];     ///< host address minus guest address
};

/// Matches only non-canonical addresses (0xc000...), whose access through `poison_addend` faults as #GP does.
inline constexpr std::uint64_t invalid_tag = std::uint64_t{1} << 62;
inline constexpr std::uint64_t poison_addend = 0;

/// Which code page is mapped where: the expectation of its CodePage minus the page's address, or 0. A link across pages
/// compares it with what it was made for (docs/engine.md, "Links across pages").
struct ExecTable {
  std::uint64_t entry[table_slots];
};

/// One entry of the jump cache: guest address to translated code.
struct JumpEntry {
  std::uint64_t negated_address;  ///< minus the guest address; an empty entry matches nothing that has its slot
  std::uint64_t code;             ///< host address of the block's indirect entry
};
struct JumpCache {
  JumpEntry entry[table_slots];
};
/// Where an address has its place: the low 16 bits of address + page number, so that large programs spread.
constexpr unsigned jump_slot(std::uint64_t address) {
  return static_cast<unsigned>(address + (address >> 12)) & (table_slots - 1);
}

/// Why translated code came back to the run loop.
enum class ExitKind : std::uint32_t {
  Lookup,  ///< `rip` has no known translation here: look up, translate; exit_arg is 0 or the BranchNote
  Link,    ///< as Lookup, and exit_arg is the patchable jump that asked
  Poll,    ///< the poll pointer was taken away
  Resume,  ///< a callout changed rip or state: go on at `rip`
  Fault,   ///< the instruction at `rip` faulted natively; exit_arg is the vector
};

/// Byte offsets here are part of the emitted code and of stubs.S; static_asserts below hold them.
struct VcpuBlock {
  std::uint64_t gpr[16];       ///< home of registers outside translated code; always home of r10, r11, r14, r15
  std::uint64_t rip;           ///< guest RIP when not in translated code
  std::uint64_t page_address;  ///< guest-virtual address of the page whose translation runs
  std::uint64_t poll;          ///< read through on loop edges; points to unmapped memory to make the vCPU stop
  std::uint64_t t0, t1, t2;    ///< scratch registers at a callout
  std::uint64_t host_rsp;      ///< stack pointer at entry, for leaving from any depth
  std::uint64_t arith_flags;   ///< RFLAGS image at a callout or exit (arithmetic bits are the guest's)
  std::uint64_t flags_image;   ///< AH after LAHF in byte 1, SETO in byte 0 (translator's saved flags)
  std::uint64_t rcx_save;      ///< rcx during a flag-preserving check
  std::uint64_t segment_base[8];
  std::uint64_t interrupt_flag;  ///< RFLAGS.IF, 0 or 1
  std::uint64_t direction;       ///< RFLAGS.DF, 0 or 1
  std::uint64_t irq_pending;     ///< nonzero: look at interrupts as soon as IF allows
  std::uint64_t exit_kind;
  std::uint64_t exit_arg;
  std::uint64_t stub_lookup;                          ///< jump there with T0 = guest RIP
  std::uint64_t stub_exit;                            ///< jump there with rip, exit_kind and exit_arg set
  std::uint64_t stub_memory;                          ///< call: slow path of a memory access
  std::uint64_t stub_writeback;                       ///< call: finish a bounced store
  std::uint64_t stub_callout;                         ///< call: a C++ routine
  std::uint64_t self;                                 ///< the Vcpu object, for stubs.S
  std::uint64_t tsc_offset;                           ///< guest TSC minus host TSC
  std::uint64_t fn_memory, fn_writeback, fn_callout;  ///< C++ side of the stubs
  std::uint64_t stub_link;                            ///< call: the name of a LinkSite follows
  std::uint64_t temp;              ///< a value that must survive a second memory check in one instruction
  std::uint64_t group_addend[8];   ///< addends of access groups of the running block
  std::uint64_t kernel_gs_base;    ///< IA32_KERNEL_GS_BASE, here for SWAPGS
  std::uint64_t pending_bad_poll;  ///< address that `poll` gets to make the vCPU stop
  std::uint64_t stub_branch;       ///< call, with T0 = guest RIP: as stub_lookup; a BranchNote follows the call
  std::uint64_t under_call;        ///< what a CALL's return address replaced
  std::uint64_t stub_group;        ///< call: as stub_memory, and 13 bytes further when the range crosses a page
  std::uint64_t return_sp;         ///< top of the return stack while translated code does not run
  std::uint64_t return_base;       ///< its bottom: nothing is paired (docs/engine.md, "Paired returns")
  // Outside 64-bit code: the highest offset that may be read, or written, at once; -1 where C++ has to look.
  std::int64_t read_limit[segment_count], write_limit[segment_count];
  std::int64_t code_limit;  ///< the last offset of CS whose whole page is inside the limit
  std::uint64_t tsc_aux;    ///< IA32_TSC_AUX, for RDTSCP
  std::uint64_t credit;     ///< deterministic mode: end of the credit pages minus what is left of this turn
  std::uint64_t state;      ///< the vCPU's ArchState, what of it is not in this block
  std::uint64_t mode;       ///< its Mode: that of the block that runs
  /// call: as stub_callout, for REP STOS and MOVS of elements of 1, 2, 4, 8 bytes; T0 = tlb_offset(true)
  std::uint64_t stub_stos[4], stub_movs[4];
};
static_assert(sizeof(VcpuBlock) <= 1024);

/// The bounce buffer stands behind the block: an operand of up to 64 bytes at any low 6 address bits.
inline constexpr std::size_t bounce_offset = 1024;
inline constexpr std::size_t bounce_bytes = 192;

/// What one context maps, from its gs base on.
struct ContextLayout {
  union {
    VcpuBlock block;
    std::uint8_t front[4096];
  };
  TlbTable tlb[regime_count];
  JumpCache jumps[regime_count];
  ExecTable exec[regime_count];
};
static_assert(offsetof(ContextLayout, tlb) == 4096);

inline constexpr std::int32_t block_offset_gpr(unsigned reg) { return static_cast<std::int32_t>(reg * 8); }
#define VENEER_BLOCK_OFFSET(field) static_cast<std::int32_t>(offsetof(::veneer::cpu::bt::VcpuBlock, field))

// stubs.S and string_stubs.S spell these numbers.
static_assert(offsetof(VcpuBlock, rip) == 0x80);
static_assert(offsetof(VcpuBlock, t0) == 0x98);
static_assert(offsetof(VcpuBlock, host_rsp) == 0xb0);
static_assert(offsetof(VcpuBlock, rcx_save) == 0xc8);
static_assert(offsetof(VcpuBlock, arith_flags) == 0xb8);
static_assert(offsetof(VcpuBlock, flags_image) == 0xc0);
static_assert(offsetof(VcpuBlock, direction) == 0x118);
static_assert(offsetof(VcpuBlock, exit_kind) == 0x128);
static_assert(offsetof(VcpuBlock, exit_arg) == 0x130);
static_assert(offsetof(VcpuBlock, self) == 0x160);
static_assert(offsetof(VcpuBlock, fn_memory) == 0x170);
static_assert(offsetof(VcpuBlock, fn_writeback) == 0x178);
static_assert(offsetof(VcpuBlock, fn_callout) == 0x180);
static_assert(offsetof(VcpuBlock, return_sp) == 0x200);
static_assert(offsetof(VcpuBlock, return_base) == 0x208);
static_assert(offsetof(TlbTable, write_tag) - offsetof(TlbTable, read_tag) == 0x80000);
static_assert(offsetof(TlbTable, addend) - offsetof(TlbTable, write_tag) == 0x80000);

}  // namespace veneer::cpu::bt
