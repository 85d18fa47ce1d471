// Walks systematically through the encoding space.
#include "cpu/x86/encoding_sweep.h"

#include <initializer_list>

namespace veneer::cpu::x86 {

namespace {

class Sweep {
 public:
  Sweep(const ZydisDecoder& decoder, std::uint8_t rm, const SweepVisitor& visit)
      : decoder_(decoder), rm_(rm), visit_(visit) {}

  void legacy() {
    constexpr std::uint8_t no_prefix = 0;
    constexpr std::uint8_t prefixes[] = {no_prefix, 0x66, 0xf2, 0xf3, 0xf0};
    const bool long_mode = decoder_.machine_mode == ZYDIS_MACHINE_MODE_LONG_64;
    for (const std::uint8_t prefix : prefixes) {
      for (const bool rex_w : {false, true}) {
        if (rex_w && !long_mode) continue;
        start({});
        if (prefix != no_prefix) append(prefix);
        if (rex_w) append(0x48);
        const std::size_t front = size_;
        one_byte_map();
        for (const std::initializer_list<std::uint8_t> escape :
             {std::initializer_list<std::uint8_t>{0x0f}, {0x0f, 0x38}, {0x0f, 0x3a}}) {
          size_ = front;
          for (const std::uint8_t byte : escape) append(byte);
          opcodes(false);
        }
      }
    }
  }

  void vex() {
    for (unsigned map = 1; map <= 3; ++map) {
      for (unsigned w_l_pp = 0; w_l_pp < 16; ++w_l_pp) {
        for (const unsigned vvvv : {0xfu, 0xdu}) {
          const auto third = static_cast<std::uint8_t>((w_l_pp & 8) << 4 | vvvv << 3 | (w_l_pp & 7));
          start({0xc4, static_cast<std::uint8_t>(0xe0 | map), third});
          opcodes(true);
        }
      }
    }
  }

  void evex() {
    for (unsigned map = 1; map <= 3; ++map) {
      for (unsigned w_pp = 0; w_pp < 8; ++w_pp) {
        for (const unsigned vvvv : {0xfu, 0xdu}) {
          const auto p1 = static_cast<std::uint8_t>((w_pp & 4) << 5 | vvvv << 3 | 4 | (w_pp & 3));
          for (unsigned z_ll_b = 0; z_ll_b < 16; ++z_ll_b) {
            for (unsigned opmask = 0; opmask < 2; ++opmask) {
              start({0x62, static_cast<std::uint8_t>(0xf0 | map), p1,
                     static_cast<std::uint8_t>(z_ll_b << 4 | 8 | opmask)});
              opcodes(true);
            }
          }
        }
      }
    }
  }

 private:
  void start(std::initializer_list<std::uint8_t> bytes) {
    item_.bytes.fill(0);
    size_ = 0;
    for (const std::uint8_t byte : bytes) append(byte);
  }
  void append(std::uint8_t byte) { item_.bytes[size_++] = byte; }

  /// The one-byte map without the bytes that are prefixes or escapes themselves.
  void one_byte_map() { opcodes(false, true); }

  static bool is_prefix(unsigned opcode, bool long_mode) {
    switch (opcode) {
      case 0x0f:
      case 0x26:
      case 0x2e:
      case 0x36:
      case 0x3e:
      case 0x62:
      case 0x64:
      case 0x65:
      case 0x66:
      case 0x67:
      case 0xc4:
      case 0xc5:
      case 0xf0:
      case 0xf2:
      case 0xf3:
        return true;
      default:
        return long_mode && opcode >= 0x40 && opcode <= 0x4f;
    }
  }

  void opcodes(bool vector, bool skip_prefixes = false) {
    const std::size_t front = size_;
    const bool long_mode = decoder_.machine_mode == ZYDIS_MACHINE_MODE_LONG_64;
    const bool two_byte_map = !vector && !skip_prefixes && item_.bytes[front - 1] == 0x0f;
    for (unsigned opcode = 0; opcode < 256; ++opcode) {
      if (skip_prefixes && is_prefix(opcode, long_mode)) continue;
      if (two_byte_map && (opcode == 0x38 || opcode == 0x3a)) continue;
      size_ = front;
      append(static_cast<std::uint8_t>(opcode));
      for (const std::uint8_t mod : {std::uint8_t{0x00}, std::uint8_t{0xc0}}) {
        for (unsigned reg = 0; reg < 8; ++reg) {
          item_.bytes[size_] = static_cast<std::uint8_t>(mod | reg << 3 | rm_);
          try_decode();
          // Some instructions differ by the rm field of a register form.
          if (mod == 0xc0 && !vector) {
            for (unsigned rm = 0; rm < 8; ++rm) {
              item_.bytes[size_] = static_cast<std::uint8_t>(mod | reg << 3 | rm);
              if (rm != rm_) try_decode();
            }
          }
        }
      }
      item_.bytes[size_] = 0;
    }
    size_ = front;
  }

  void try_decode() {
    if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder_, item_.bytes.data(), item_.bytes.size(), &item_.instruction,
                                            item_.operands.data()))) {
      visit_(item_);
    }
  }

  const ZydisDecoder& decoder_;
  std::uint8_t rm_;
  const SweepVisitor& visit_;
  SweepItem item_{};
  std::size_t size_ = 0;
};

}  // namespace

void sweep_encodings(const ZydisDecoder& decoder, std::uint8_t modrm_rm, const SweepVisitor& visit) {
  Sweep sweep(decoder, modrm_rm, visit);
  sweep.legacy();
  sweep.vex();
  sweep.evex();
}

}  // namespace veneer::cpu::x86
