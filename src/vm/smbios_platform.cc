// Config and CPUID to SMBIOS.
#include "vm/smbios_platform.h"

#include <cstring>
#include <string_view>

#include "vm/layout.h"

namespace veneer::vm {
namespace {

/// FNV-1a, 64 bits; `seed` makes independent ones.
std::uint64_t hash_of(std::string_view text, std::uint64_t seed) {
  std::uint64_t value = 0xcbf2'9ce4'8422'2325 ^ seed;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100'0000'01b3;
  return value ^ value >> 29;
}

/// A UUID of version 8, "of one's own making" (RFC 9562 5.8).
std::array<std::uint8_t, 16> uuid_of(std::string_view name) {
  const std::uint64_t halves[] = {hash_of(name, 0), hash_of(name, 0x5665'6e65'6572)};
  std::array<std::uint8_t, 16> uuid{};
  std::memcpy(uuid.data(), halves, sizeof halves);
  uuid[6] = static_cast<std::uint8_t>((uuid[6] & 0x0f) | 0x80);
  uuid[8] = static_cast<std::uint8_t>((uuid[8] & 0x3f) | 0x80);
  return uuid;
}

std::string text_of(std::initializer_list<std::uint32_t> words) {
  std::string text;
  for (const std::uint32_t word : words) text.append(reinterpret_cast<const char*>(&word), sizeof word);
  const std::size_t begin = text.find_first_not_of(' '), end = text.find_last_not_of(std::string_view(" \0", 2));
  return begin == std::string::npos || end == std::string::npos ? std::string{} : text.substr(begin, end + 1 - begin);
}

}  // namespace

devices::SmbiosPlatform describe_to_smbios(const MachineConfig& config, const cpu::CpuidPolicy& cpuid) {
  devices::SmbiosPlatform platform;
  platform.version = VENEER_VERSION;
  platform.uuid = uuid_of(config.name);
  platform.cpus = config.cpus;
  const cpu::CpuidResult vendor = cpuid.query(0, 0, {}), signature = cpuid.query(1, 0, {});
  platform.cpu_vendor = text_of({vendor.ebx, vendor.edx, vendor.ecx});
  platform.cpu_signature = signature.eax;
  platform.cpu_features = signature.edx;
  for (const std::uint32_t leaf : {0x8000'0002u, 0x8000'0003u, 0x8000'0004u}) {
    const cpu::CpuidResult part = cpuid.query(leaf, 0, {});
    platform.cpu_brand += std::string(reinterpret_cast<const char*>(&part), sizeof part);
  }
  platform.cpu_brand = platform.cpu_brand.substr(0, platform.cpu_brand.find('\0'));
  platform.cpu_mhz = static_cast<std::uint32_t>(cpuid.tsc_hz() / 1'000'000);
  platform.memory_below_4g = layout::ram_below_4g(config.memory_bytes);
  platform.memory_above_4g = layout::ram_above_4g(config.memory_bytes);
  return platform;
}

}  // namespace veneer::vm
