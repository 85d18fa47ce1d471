// SMBIOS tables: what an operating system tells its user about the machine (dmidecode, /sys/class/dmi).
//
// Spec: DMTF DSP0134, System Management BIOS Reference Specification 3.6; tables of version 2.8, for which the 32-bit
// entry point is enough.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/units.h"

namespace veneer::devices {

struct SmbiosPlatform {
  std::string version;                ///< of Veneer
  std::array<std::uint8_t, 16> uuid;  ///< in the order in which RFC 4122 writes it
  unsigned cpus = 1;                  ///< cores of one processor
  std::string cpu_vendor, cpu_brand;  ///< as CPUID gives them
  std::uint32_t cpu_signature = 0;    ///< CPUID 1: EAX
  std::uint32_t cpu_features = 0;     ///< CPUID 1: EDX
  std::uint32_t cpu_mhz = 0;
  std::uint64_t memory_below_4g = 0, memory_above_4g = 0;  ///< bytes, from 0 and from 4 GiB
  bool bios = false;  ///< with a structure about the BIOS: firmware has its own, a kernel that is booted directly not
};

struct SmbiosTables {
  std::vector<std::byte> anchor, tables;
};
inline constexpr const char* smbios_anchor_file = "etc/smbios/smbios-anchor";
inline constexpr const char* smbios_tables_file = "etc/smbios/smbios-tables";

/// The entry point says that the tables are at `address`; firmware that places them elsewhere changes it.
SmbiosTables build_smbios(const SmbiosPlatform& platform, GuestPhys address);

}  // namespace veneer::devices
