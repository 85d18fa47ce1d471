// Capability block and MSI of the IOMMU.
#include "devices/iommu/amd_iommu_function.h"

#include <array>

#include "base/assert.h"

namespace veneer::devices {
namespace {

// AMD's vendor ID and the IOMMU of its family 15h; "system peripheral, IOMMU".
constexpr PciIdentity identity{0x1022, 0x1419, 0, 0x08'0600, 0x1022, 0x1419, 0};
constexpr std::uint8_t CAP_SECURE_DEVICE = 0x0f;

// Header (3.2.1), above id and next pointer: type 3, revision 1, extended features.
constexpr std::uint32_t header = 3u | 1u << 3 | 1u << 11;
constexpr std::uint32_t BASE_ENABLE = 1;
// Miscellaneous information (3.2.5): MSI message 0; addresses of 48 bits physical and 64 virtual.
constexpr std::uint32_t miscellaneous = 48u << 8 | 64u << 15;

}  // namespace

AmdIommuFunction::AmdIommuFunction(AmdIommu& iommu, std::uint64_t base) : PciFunction("amd-iommu", identity) {
  VENEER_ASSERT(base % amd_iommu::registers_bytes == 0);
  std::array<std::uint8_t, 18> body{};
  const auto put = [&](unsigned at, unsigned bytes, std::uint32_t value) {
    for (unsigned i = 0; i < bytes; ++i) body[at - 2 + i] = static_cast<std::uint8_t>(value >> (8 * i));
  };
  put(2, 2, header);
  put(4, 4, static_cast<std::uint32_t>(base) | BASE_ENABLE);
  put(8, 4, static_cast<std::uint32_t>(base >> 32));
  put(12, 4, 0);  // the range register is not used: ACPI says which devices are behind it
  put(16, 4, miscellaneous);
  const unsigned offset = add_capability(CAP_SECURE_DEVICE, body);
  VENEER_ASSERT(offset == capability_offset);
  add_msi();
  set_config(pci::COMMAND, 2, pci::COMMAND_MASTER);  // Linux does not ask for it
  iommu.set_interrupt([this] { signal_msi(); });
}

}  // namespace veneer::devices
