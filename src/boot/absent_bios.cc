// Writes the data area, the vectors and the code that stand in for a BIOS.
//
// Spec: IBM PS/2 and PC BIOS Interface Technical Reference (data area, interrupts).
#include "boot/absent_bios.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/units.h"

namespace veneer::boot {
namespace {

constexpr GuestPhys EBDA_SEGMENT{0x40e}, MEMORY_KIB{0x413};

// One instruction to a line.
// clang-format off
constexpr std::array<std::uint8_t, 128> code = {
    // FF80: a service that is not there
    0xb4, 0x86,                    // mov ah, 86h
    0x55,                          // push bp
    0x89, 0xe5,                    // mov bp, sp
    0x80, 0x4e, 0x06, 0x01,        // or byte [bp+6], 1       (the carry flag of who called)
    0x5d,                          // pop bp
    0xcf,                          // iret
    0, 0, 0, 0, 0,                 //
    // FF90: INT 11h, equipment
    0x1e,                          // push ds
    0x6a, 0x40,                    // push 40h
    0x1f,                          // pop ds
    0xa1, 0x10, 0x00,              // mov ax, [10h]
    0x1f,                          // pop ds
    0xcf,                          // iret
    0, 0, 0, 0, 0, 0, 0,           //
    // FFA0: INT 12h, KiB of conventional memory
    0x1e,                          // push ds
    0x6a, 0x40,                    // push 40h
    0x1f,                          // pop ds
    0xa1, 0x13, 0x00,              // mov ax, [13h]
    0x1f,                          // pop ds
    0xcf,                          // iret
    0, 0, 0, 0, 0, 0, 0,           //
    // FFB0: an interrupt of the second 8259, and (FFB7) one of the first
    0x50,                          // push ax
    0xb0, 0x20,                    // mov al, 20h             (end of interrupt)
    0xe6, 0xa0,                    // out 0a0h, al
    0xeb, 0x03,                    // jmp FFBA
    0x50,                          // FFB7: push ax
    0xb0, 0x20,                    // mov al, 20h
    0xe6, 0x20,                    // FFBA: out 20h, al
    0x58,                          // pop ax
    0xcf,                          // FFBD: iret
    0, 0,                          //
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  //
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  //
    // FFE0: the reset, a rising edge of bit 2
    0xba, 0xf9, 0x0c,              // mov dx, 0cf9h
    0xb0, 0x02, 0xee,              // mov al, 2; out dx, al
    0xb0, 0x06, 0xee,              // mov al, 6; out dx, al
    0xfa, 0xf4, 0xeb, 0xfc,        // cli; hlt; and again
    0, 0, 0,                       //
    0xea, 0xe0, 0xff, 0x00, 0xf0,  // FFF0: jmp F000:FFE0
    0, 0, 0, 0, 0, 0, 0, 0, 0,     //
    0xfc,                          // FFFE: the model, a PC/AT
    0,
};
// clang-format on

constexpr std::uint16_t NO_SERVICE = 0xff80, EQUIPMENT = 0xff90, MEMORY_SIZE = 0xffa0, SECOND_PIC = 0xffb0,
                        FIRST_PIC = 0xffb7, NOTHING = 0xffbd;

std::uint16_t handler(unsigned vector) {
  if (vector == 0x11) return EQUIPMENT;
  if (vector == 0x12) return MEMORY_SIZE;
  if (vector >= 0x08 && vector < 0x10) return FIRST_PIC;
  if (vector >= 0x70 && vector < 0x78) return SECOND_PIC;
  const bool service = vector == 0x10 || (vector >= 0x13 && vector < 0x1b) || vector == 0x40;
  return service ? NO_SERVICE : NOTHING;
}

bool write_vectors(machine::GuestMemory& memory) {
  constexpr std::uint32_t segment = 0xf000;
  std::array<std::uint32_t, 256> vectors{};
  for (unsigned i = 0; i < vectors.size(); ++i) vectors[i] = segment << 16 | handler(i);
  return memory.write_value(GuestPhys{0}, vectors);
}

bool write_data_area(machine::GuestMemory& memory, const E820Map& map) {
  constexpr std::uint64_t conventional_end = 640 * KiB;
  std::uint64_t end = 0;
  for (const E820Entry& entry : map)
    if (entry.type == E820Type::Ram && entry.base == 0) end = std::min(entry.size_bytes, conventional_end);
  end = end / KiB * KiB;
  const auto reserved_kib = static_cast<std::uint8_t>((conventional_end - end) / KiB);
  const bool ok = memory.write_value(EBDA_SEGMENT, static_cast<std::uint16_t>(end / 16)) &&
                  memory.write_value(MEMORY_KIB, static_cast<std::uint16_t>(end / KiB));
  // The extended data area begins with its own size in KiB.
  return ok && (reserved_kib == 0 || memory.write_value(GuestPhys{end}, reserved_kib));
}

}  // namespace

bool write_absent_bios(machine::GuestMemory& memory, const E820Map& map) {
  return write_vectors(memory) && write_data_area(memory, map) && memory.write_value(BIOS_STUBS, code);
}

}  // namespace veneer::boot
