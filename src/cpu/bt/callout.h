// Descriptors behind the calls out of translated code.
#pragma once

#include <cstdint>

namespace veneer::cpu::bt {

class BtVcpu;

/// A memory operand as the encoding gives it. Registers are guest numbers, 0xff for none, 0xfe for RIP.
struct MemoryOperand {
  static constexpr std::uint8_t none = 0xff;
  static constexpr std::uint8_t rip = 0xfe;
  std::uint8_t base = none;
  std::uint8_t index = none;
  std::uint8_t scale_log2 = 0;
  std::uint8_t segment = 3;        ///< SegReg
  std::uint8_t address_bytes = 8;  ///< 2, 4 or 8
  std::int64_t displacement = 0;   ///< for RIP: from the start of the page, next instruction already added
};

/// How a mask decides which bytes of a vector instruction's memory operand are touched.
enum class MaskKind : std::uint8_t {
  None,      ///< no mask, or one that does not matter for memory
  Opmask,    ///< opmask bit j stands for element j modulo `elements` (broadcasts repeat theirs)
  Compress,  ///< as many elements as the opmask has bits set, from the first on; register 0: all
  SignBits,  ///< the top bit of each element of a vector register
};

/// Vector operands of gathers, scatters, masked moves and masked memory operands.
struct VectorOperands {
  MaskKind kind = MaskKind::None;
  std::uint8_t reg = 0;            ///< vector register named by ModRM.reg, 0-31
  std::uint8_t index = 0;          ///< VSIB index register, 0-31
  std::uint8_t mask = 0;           ///< opmask register, or the vector register of SignBits
  std::uint8_t mask_bits = 0;      ///< how many bits of an opmask count
  std::uint8_t elements = 0;       ///< in memory
  std::uint8_t element_bytes = 0;  ///< of one of these
  std::uint8_t index_bytes = 0;    ///< of one VSIB index, 4 or 8
  std::uint8_t aligned_bytes = 0;  ///< #AC unless the address is a multiple of this; 0: never
  bool faults_whole = false;       ///< inactive elements fault as well, though nothing happens to them
};

/// The 8 bytes behind a call of stub_memory or stub_writeback; at any address.
struct [[gnu::packed]] AccessDescriptor {
  std::uint16_t offset : 12;     ///< of the instruction in its page
  std::uint16_t segment : 3;     ///< SegReg whose limit and type count; in 64-bit code FS, GS, or 0 for none
  std::uint16_t behind_sti : 1;  ///< events have to wait until this instruction is done
  std::uint16_t next_offset;     ///< of the one behind it
  std::uint8_t size;             ///< bytes, up to 108
  std::uint8_t flags;
  std::uint16_t jump_bytes;  ///< from here to the bounced form

  static constexpr std::uint8_t WRITE = 1;   ///< needs write permission
  static constexpr std::uint8_t READ = 2;    ///< reads the operand before writing
  static constexpr std::uint8_t STACK = 4;   ///< a non-canonical address is #SS, not #GP
  static constexpr std::uint8_t STAY = 8;    ///< never leave after the write-back (CALL: rip is not next)
  static constexpr std::uint8_t WAITS = 16;  ///< pending x87 exceptions (#MF) come before the operand's faults
  static constexpr std::uint8_t GROUP =
      128;  ///< a group's whole range: all of it in one plain page; jump_bytes is the leader's own place in it
  static constexpr std::uint8_t ALIGNED = 64;  ///< #GP unless aligned to its size
  static constexpr std::uint8_t MASKED = 32;   ///< a record follows the jump back: its mask decides (masked_access.cc)
};
static_assert(sizeof(AccessDescriptor) == 8);

/// What the routines behind stub_memory and stub_writeback answer. Anything else is a descriptor's jump_bytes: on in
/// the bounced form.
struct AccessAnswer {
  static constexpr std::uint64_t go_on = 0;       ///< behind the descriptor, in the fast form
  static constexpr std::uint64_t left = 1;        ///< to the run loop
  static constexpr std::uint64_t to_variant = 5;  ///< of a group: behind the jump that follows the descriptor
};

/// From the end of a MASKED descriptor to the address of its record: the jump back to the fast form.
inline constexpr unsigned masked_record_distance = 5;

/// What a callout wants next.
enum class Outcome : std::uint64_t {
  Continue = 0,  ///< the instruction is done; go on behind it in the same block
  Leave = 1,     ///< state and rip are set; back to the run loop
  Fault = 2,     ///< BtVcpu::fault_ is set; deliver it at this instruction
  Next = 3,      ///< done, but back to the run loop with rip behind the instruction
};

/// What a callout knows of its instruction. In the code cache's arena; the descriptor is a pointer to it.
struct CalloutRecord {
  Outcome (*function)(BtVcpu&, const CalloutRecord&) = nullptr;
  std::uint16_t offset = 0;
  std::uint16_t next_offset = 0;
  std::uint8_t length = 0;
  std::uint8_t operand_bytes = 0;  ///< effective operand size
  std::uint8_t rep = 0;            ///< 0, 0xf2, 0xf3
  std::uint8_t reg = 0;            ///< ModRM.reg with REX.R
  std::uint8_t rm = 0;             ///< ModRM.rm with REX.B when a register
  std::uint8_t opcode = 0;         ///< last opcode byte
  std::uint8_t modrm_reg = 0;      ///< ModRM.reg alone (opcode extension)
  bool has_memory = false;
  bool high_byte = false;  ///< register operand is AH, CH, DH or BH (rm or reg then 0-3)
  std::uint8_t memory_bytes = 0;
  std::uint16_t mnemonic = 0;  ///< ZydisMnemonic
  std::uint64_t immediate = 0;
  std::uint64_t immediate2 = 0;
  MemoryOperand memory;
  VectorOperands vector;
  std::uint8_t raw[16] = {};
};

using CalloutFunction = Outcome (*)(BtVcpu&, const CalloutRecord&);

}  // namespace veneer::cpu::bt
