// Encodes a random instance of a template: prefixes, opcode, ModRM, SIB, displacement.
#include "encode.h"

#include <cstring>

namespace veneer::fuzz {

namespace {

/// What ModRM, SIB and the register extension bits will be.
struct Operands {
  unsigned reg = 0;    ///< with its extension bits
  unsigned rm = 0;     ///< register form, or base
  unsigned index = 4;  ///< 4 without extension: none
  bool memory = false, sib = false, no_base = false, rip = false;
  bool words = false;  ///< a 16-bit address
  unsigned scale = 0;
  unsigned mod = 3;
  std::int32_t displacement = 0;
};

class Encoder {
 public:
  Encoder(Random& random, const RegisterRoles& roles, const Template& form, CodeWidth width)
      : random_(random), roles_(roles), form_(form), width_(width) {}

  Encoded encode() {
    choose_operands();
    if (form_.map == Map::Legacy) {
      legacy_front();
    } else {
      random_prefixes(false);
      if (form_.map == Map::Vex) vex_front();
      if (form_.map == Map::Evex) evex_front();
    }
    if (form_.has_modrm) modrm();
    out_.rip_relative = o_.rip;
    out_.no_base = o_.no_base;
    while (size_ < out_.bytes.size()) append(static_cast<unsigned>(random_.next()));
    return out_;
  }

 private:
  void append(unsigned byte) { out_.bytes[size_++] = static_cast<std::uint8_t>(byte); }
  bool long_mode() const { return width_ == CodeWidth::Bits64; }
  unsigned register_limit() const { return !long_mode() ? 8 : form_.map == Map::Evex ? 32 : 16; }
  unsigned gpr_limit() const { return long_mode() ? 16 : 8; }

  void choose_operands() {
    const unsigned fixed_reg = (form_.modrm >> 3) & 7, fixed_rm = form_.modrm & 7;
    o_.reg = form_.reg_free ? random_.below(register_limit()) : fixed_reg;
    o_.memory = form_.memory;
    if (!o_.memory) {
      o_.rm = form_.rm_free || !form_.has_modrm ? random_.below(register_limit()) : fixed_rm;
      return;
    }
    wide_address_in_16_bit_code_ = width_ == CodeWidth::Bits16 && random_.percent(30);
    if (width_ == CodeWidth::Bits16 && !wide_address_in_16_bit_code_)
      choose_16_bit_address();
    else
      choose_address();
  }

  /// SDM 2A table 2-1: any rm field; 110b with mod 00 is a displacement alone.
  void choose_16_bit_address() {
    o_.rm = form_.vsib ? 4 : random_.below(8);
    o_.mod = random_.below(3);
    o_.displacement = o_.mod == 0   ? static_cast<std::int32_t>(random_address(random_, true) - low_data)
                      : o_.mod == 1 ? random_.between(-64, 63)
                                    : 16 * random_.between(-16, 16);
    o_.words = true;
  }

  void choose_address() {
    o_.rm = random_.percent(94) ? random_.pick(roles_.pointers) : random_.below(gpr_limit());
    const unsigned kind = random_.below(100);
    if (kind < 8 && !form_.vsib && long_mode()) {
      o_.rip = true;
      o_.mod = 0;
      o_.rm = 5;
      return;
    }
    const bool indexed = form_.vsib || kind < 40;
    if (indexed) {
      o_.index = form_.vsib            ? (random_.percent(85) ? roles_.vector_index : random_.below(register_limit()))
                 : random_.percent(90) ? random_.pick(roles_.indices)
                                       : random_.below(gpr_limit());
      o_.scale = random_.below(4);
    }
    o_.no_base = random_.percent(10);
    o_.sib = indexed || o_.no_base || (o_.rm & 7) == 4 || random_.percent(5);
    if (o_.no_base) {
      o_.mod = 0;
      o_.rm = 5;
      o_.displacement = static_cast<std::int32_t>(random_address(random_, true) - data_segment_base(width_));
      return;
    }
    o_.mod = random_.below(3);
    if (o_.mod == 0 && (o_.rm & 7) == 5) o_.mod = 1;
    if (o_.mod == 1)
      o_.displacement = form_.map == Map::Evex ? random_.between(-4, 4)
                        : random_.percent(60)  ? 16 * random_.between(-8, 7)
                                               : random_.between(-128, 127);
    if (o_.mod == 2) o_.displacement = random_.percent(70) ? 16 * random_.between(-16, 16) : random_.between(-300, 300);
  }

  void random_prefixes(bool legacy) {
    static constexpr std::uint8_t segments[] = {0x64, 0x65, 0x64, 0x65, 0x2e, 0x36, 0x3e, 0x26};
    static constexpr std::uint8_t plain_segments[] = {0x2e, 0x36, 0x3e, 0x26};
    static constexpr std::uint8_t others[] = {0x66, 0xf2, 0xf3, 0xf0};
    if (long_mode() && random_.percent(8)) append(random_.pick(segments));
    if (random_.percent(long_mode() ? 2 : 4)) append(random_.pick(plain_segments));
    if (wide_address_in_16_bit_code_) return append(0x67);
    if (random_.percent(form_.memory || form_.moffs ? 5 : 1)) append(0x67);
    if (random_.percent(legacy ? 4 : 1)) append(random_.pick(others));
  }

  void legacy_front() {
    random_prefixes(true);
    for (unsigned i = 0; i < form_.prefix_count; i++) append(form_.prefixes[i]);
    if (!long_mode()) {
      for (unsigned i = 0; i < form_.opcode_count; i++) append(form_.opcode[i]);
      return;
    }
    const bool extended = o_.reg >= 8 || (!o_.rip && !o_.no_base && o_.rm >= 8) || (o_.index & 15) >= 8;
    if (extended || form_.rex_w || random_.percent(20)) {
      const bool base_bit = o_.rip || o_.no_base ? random_.coin() : o_.rm & 8;
      append(0x40u | (form_.rex_w || random_.percent(2) ? 8u : 0u) | (o_.reg & 8 ? 4u : 0u) | (o_.index & 8 ? 2u : 0u) |
             (base_bit ? 1u : 0u));
    }
    for (unsigned i = 0; i < form_.opcode_count; i++) append(form_.opcode[i]);
  }

  unsigned vvvv() { return form_.vvvv_free ? random_.below(register_limit()) : 0; }

  /// The inverted R, X and B bits of VEX and EVEX.
  unsigned inverted_extensions() const {
    const bool b = o_.rip || o_.no_base ? false : o_.rm & 8;
    return (o_.reg & 8 ? 0u : 0x80u) | (o_.index & 8 ? 0u : 0x40u) | (b ? 0u : 0x20u);
  }

  void vex_front() {
    const unsigned extensions = inverted_extensions();
    const unsigned map = form_.payload[0] & 0x1f;
    unsigned last = form_.payload[1];
    if (form_.vvvv_free) last = (last & 0x87) | (~vvvv() & 15) << 3;
    if (map == 1 && (extensions & 0x60) == 0x60 && !(last & 0x80) && random_.coin()) {
      append(0xc5);
      append((extensions & 0x80) | (last & 0x7f));
    } else {
      append(0xc4);
      append(extensions | map);
      append(last);
    }
    append(form_.opcode[0]);
  }

  void evex_front() {
    const unsigned v = vvvv();
    // V' extends vvvv, and the index of a VSIB; X extends the register rm.
    const bool v_high = form_.vsib ? o_.index & 16 : v & 16;
    unsigned extensions = inverted_extensions();
    if (!o_.memory) extensions = (extensions & 0xa0) | (o_.rm & 16 ? 0u : 0x40u);
    unsigned second = form_.payload[1];
    if (form_.vvvv_free) second = (second & 0x87) | (~v & 15) << 3;
    unsigned third = form_.payload[2] & 0x70;
    third |= v_high ? 0u : 8u;
    if (form_.payload[2] & 7 || random_.coin()) third |= random_.below(8);
    if (random_.percent(25)) third |= 0x80;
    if (random_.percent(15)) third ^= 0x10;
    append(0x62);
    append(extensions | (o_.reg & 16 ? 0u : 0x10u) | (form_.payload[0] & 0xf));
    append(second);
    append(third);
    append(form_.opcode[0]);
  }

  void modrm() {
    const unsigned reg = (o_.reg & 7) << 3;
    if (!o_.memory) return append(0xc0 | reg | (o_.rm & 7));
    if (o_.words) {
      append(o_.mod << 6 | reg | o_.rm);
      if (o_.mod == 1) append(static_cast<unsigned>(o_.displacement));
      if (o_.mod == 2 || (o_.mod == 0 && o_.rm == 6)) {
        append(static_cast<unsigned>(o_.displacement));
        append(static_cast<unsigned>(o_.displacement) >> 8);
      }
      return;
    }
    append(o_.mod << 6 | reg | (o_.sib ? 4 : o_.rm & 7));
    if (o_.sib) append(o_.scale << 6 | (o_.index & 7) << 3 | (o_.rm & 7));
    if (o_.mod == 1) append(static_cast<unsigned>(o_.displacement));
    if (o_.mod == 2 || o_.no_base) {
      std::memcpy(out_.bytes.data() + size_, &o_.displacement, 4);
      size_ += 4;
    }
    if (o_.rip) size_ += 4;
  }

  Random& random_;
  const RegisterRoles& roles_;
  const Template& form_;
  CodeWidth width_;
  bool wide_address_in_16_bit_code_ = false;
  Operands o_;
  Encoded out_;
  std::size_t size_ = 0;
};

}  // namespace

Encoded encode_randomly(Random& random, const RegisterRoles& roles, const Template& form, CodeWidth width) {
  return Encoder(random, roles, form, width).encode();
}

}  // namespace veneer::fuzz
