// Translated blocks, what is known about them, and the modes they are keyed by.
#pragma once

#include <cstdint>

#include "cpu/bt/branch_note.h"
#include "cpu/bt/vcpu_block.h"

namespace veneer::cpu::bt {

/// A page that holds guest code: RAM slot and page in it (traps.md 4: not the guest-physical address).
using CodePageId = std::uint64_t;
constexpr CodePageId code_page_id(std::uint32_t slot, std::uint64_t page) {
  return (static_cast<std::uint64_t>(slot) << 40) | page;
}

/// Everything besides the bytes that decides what a block does. Part of the key.
struct Mode {
  std::uint32_t bits = 0;

  static constexpr std::uint32_t CODE64 = 1u << 0;
  static constexpr std::uint32_t CODE32 = 1u << 1;  ///< neither: 16-bit code
  static constexpr std::uint32_t STACK32 = 1u << 2;
  static constexpr std::uint32_t LONG = 1u << 3;  ///< EFER.LMA
  static constexpr std::uint32_t CPL3 = 1u << 4;
  static constexpr std::uint32_t REGIME_SHIFT = 5;  ///< two bits
  static constexpr std::uint32_t REGIME = 3u << REGIME_SHIFT;
  static constexpr std::uint32_t X87_NM = 1u << 7;        ///< CR0.EM or TS: x87 gives #NM
  static constexpr std::uint32_t WAIT_NM = 1u << 8;       ///< CR0.MP and TS
  static constexpr std::uint32_t SSE_UD = 1u << 9;        ///< CR0.EM or not CR4.OSFXSR
  static constexpr std::uint32_t SSE_NM = 1u << 10;       ///< CR0.TS
  static constexpr std::uint32_t AVX = 1u << 11;          ///< CR4.OSXSAVE and XCR0 has SSE and AVX
  static constexpr std::uint32_t AVX512 = 1u << 12;       ///< and the three AVX-512 parts
  static constexpr std::uint32_t TSC_TRAP = 1u << 13;     ///< RDTSC needs a callout (CR4.TSD at CPL 3, or counted time)
  static constexpr std::uint32_t SINGLE = 1u << 14;       ///< one instruction, then leave
  static constexpr std::uint32_t ALIGN_CHECK = 1u << 15;  ///< CR0.AM, RFLAGS.AC, CPL 3
  static constexpr std::uint32_t DS_BASE = 1u << 16;      ///< the segment's base is not 0 (16/32-bit code)
  static constexpr std::uint32_t ES_BASE = 1u << 17;
  static constexpr std::uint32_t SS_BASE = 1u << 18;
  static constexpr std::uint32_t CS_BASE = 1u << 19;
  static constexpr std::uint32_t IF_TRAP = 1u << 20;  ///< CLI and STI fault or need care (CPL > IOPL)
  static constexpr std::uint32_t VM86 = 1u << 21;
  static constexpr std::uint32_t REAL = 1u << 22;
  static constexpr std::uint32_t LIMITED = 1u << 23;  ///< 16-bit code, or CS, DS, ES or SS is not flat: all checked
  static constexpr std::uint32_t FSGSBASE = 1u << 24;
  static constexpr std::uint32_t NESTED = 1u << 25;  ///< between VMRUN and #VMEXIT: instructions may be intercepted

  static constexpr std::uint32_t UNGROUPED = 1u << 26;  ///< a variant of the block: every access checks for itself
  static constexpr std::uint32_t SMAP = 1u << 27;       ///< CR4.SMAP below CPL 3: the regime says what RFLAGS.AC is
  static constexpr std::uint32_t CPL12 = 1u << 28;      ///< CPL 1 or 2

  /// The mode of the block this is a variant of.
  Mode grouped() const { return Mode{bits & ~UNGROUPED}; }
  bool has(std::uint32_t mask) const { return (bits & mask) != 0; }
  Mode with(Regime regime) const { return Mode{(bits & ~REGIME) | static_cast<std::uint32_t>(regime) << REGIME_SHIFT}; }
  Regime regime() const { return static_cast<Regime>((bits & REGIME) >> REGIME_SHIFT); }
  bool operator==(const Mode&) const = default;
};

/// Where the guest's arithmetic flags are at some point of a block.
enum class FlagsAt : std::uint8_t {
  Hardware,  ///< in host RFLAGS
  Recipe,    ///< rebuilt by repeating the instruction that made them
  Image,     ///< in VcpuBlock::flags_image
};

/// Start of one guest instruction in a block's code: the side table for faults and kicks.
struct SideEntry {
  static constexpr std::uint16_t no_cold = 0xffff;
  std::uint16_t host_offset;   ///< from the block's hot code
  std::uint16_t cold_offset;   ///< its first slow path, from the block's cold code; no_cold if it has none
  std::uint16_t guest_offset;  ///< in the guest page
  FlagsAt flags;               ///< where flags are if the instruction itself faults natively
};
static_assert(sizeof(SideEntry) == 8);

struct Block;

/// A jump that can be patched to its target: to the direct entry inside a page; across pages to the indirect one,
/// behind a comparison of what is mapped there with what the link was made for.
struct LinkSite {
  Block* owner = nullptr;
  Block* linked = nullptr;
  LinkSite* next = nullptr;              ///< of the owner's
  LinkSite* next_incoming = nullptr;     ///< of the far links to `linked`
  std::uint32_t rel32_offset = 0;        ///< from the owner's hot code
  std::int32_t unlinked_distance = 0;    ///< near: the rel32 that leads to the slow path which asks for linking
  std::uint32_t bound = 0;               ///< far: the expectation of the page it was first linked to
  std::uint32_t expectation_offset = 0;  ///< far: the displacement that is compared, from the owner's hot code; else 0
  std::int32_t target = 0;               ///< guest offset from the start of the page
  Mode mode;                             ///< what it leads to: the owner's, but behind STAC and CLAC
  BranchNote note = BranchNote::none();  ///< of a far branch, for targets that cannot be reached
  bool ungrouped = false;                ///< leads to the target's ungrouped variant

  bool far() const { return expectation_offset != 0; }
};

/// One translated block.
struct Block {
  CodePageId page = 0;
  CodePageId second_page = 0;  ///< of an instruction that straddles; else 0
  Mode mode;
  std::uint16_t offset = 0;  ///< guest offset in the page
  std::uint16_t guest_bytes = 0;
  bool straddles = false;
  bool dead = false;
  bool once_only = false;          ///< shadow mode: cannot be run twice
  std::uint8_t shadow_checks = 0;  ///< shadow mode: how often it was compared
  std::uint8_t shadow_aborts = 0;  ///< shadow mode: trials that came to a device
  std::uint8_t instructions = 0;
  const std::uint8_t* code = nullptr;  ///< executable address of the indirect entry
  const std::uint8_t* cold = nullptr;  ///< executable address of its slow paths, in a region of their own
  std::uint32_t direct_offset = 0;     ///< the direct entry (no new page address needed)
  std::uint32_t hot_bytes = 0;
  std::uint32_t cold_bytes = 0;
  SideEntry* side = nullptr;  ///< one per instruction
  Block* next_in_bucket = nullptr;
  LinkSite* links = nullptr;
  LinkSite* incoming = nullptr;   ///< far links to this block
  std::uint32_t return_site = 0;  ///< where its CALL returns to, from its hot code; 0 if nothing does

  /// The instruction that the code at `pc` belongs to; null for what stands in front of the first one.
  const SideEntry* entry_at(const std::uint8_t* pc) const {
    const SideEntry* entry = nullptr;
    if (pc >= code && pc < code + hot_bytes) {
      for (unsigned i = 0; i < instructions && side[i].host_offset <= pc - code; i++) entry = &side[i];
      return entry;
    }
    // In a slow path: the last instruction whose first slow path starts at or before here.
    for (unsigned i = 0; i < instructions; i++)
      if (side[i].cold_offset != SideEntry::no_cold && side[i].cold_offset <= pc - cold) entry = &side[i];
    return entry;
  }
};

}  // namespace veneer::cpu::bt
