// The walk through an AMD IOMMU's page tables.
//
// Spec: 48882 2.2.3. Missing: nested (guest) translation, accessed and dirty bits; neither is offered.
#pragma once

#include <cstdint>

#include "machine/guest_memory.h"

namespace veneer::devices::amd_iommu {

struct WalkResult {
  enum class Kind : std::uint8_t {
    Mapped,
    NotPresent,  ///< or beyond what the tables cover
    Reserved,    ///< a level or page size that cannot be
    NoTable,     ///< a table outside RAM
  };
  Kind kind = Kind::NotPresent;
  GuestPhys address;            ///< Mapped: of the byte; NoTable: of the entry
  std::uint64_t run_bytes = 0;  ///< Mapped: from there to the end of the page
  bool readable = false, writable = false;
};

/// From `root`, a table of level `level` (1 to 6). Reads one entry a level, whatever they say.
WalkResult walk(const machine::GuestMemory& memory, GuestPhys root, unsigned level, std::uint64_t address);

}  // namespace veneer::devices::amd_iommu
