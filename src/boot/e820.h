// The memory map a kernel is told about (ACPI 6.4, 15.1: INT 15h E820h address ranges).
#pragma once

#include <cstdint>
#include <vector>

namespace veneer::boot {

enum class E820Type : std::uint32_t { Ram = 1, Reserved = 2, AcpiReclaimable = 3, AcpiNvs = 4 };

/// As boot_params holds it (Linux/x86 zero page, e820_table).
struct [[gnu::packed]] E820Entry {
  std::uint64_t base = 0;
  std::uint64_t size_bytes = 0;
  E820Type type = E820Type::Ram;
};
static_assert(sizeof(E820Entry) == 20);

using E820Map = std::vector<E820Entry>;

}  // namespace veneer::boot
