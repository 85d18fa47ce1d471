// The code at the reset vector.
#include "boot/reset_vector.h"

#include <array>
#include <cstdint>

namespace veneer::boot {

bool write_reset_vector(machine::GuestMemory& memory) {
  constexpr std::array<std::uint8_t, 32> code = {
      0xba, 0xf9, 0x0c,              // FFE0: mov dx, 0cf9h
      0xb0, 0x02, 0xee,              //       mov al, 2; out dx, al   (the reset is a rising edge of bit 2)
      0xb0, 0x06, 0xee,              //       mov al, 6; out dx, al
      0xfa, 0xf4, 0xeb, 0xfc,        //       cli; hlt; and again
      0,    0,    0,
      0xea, 0xe0, 0xff, 0x00, 0xf0,  // FFF0: jmp F000:FFE0
      0,    0,    0,    0,    0,    0,    0,    0,    0,
      0xfc,                          // FFFE: the model, a PC/AT
      0,
  };
  return memory.write_value(RESET_STUB, code);
}

}  // namespace veneer::boot
