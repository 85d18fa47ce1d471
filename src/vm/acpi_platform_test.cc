// The tables of both machines, read back by iasl's disassembler.
#include "vm/acpi_platform.h"

#include <gmock/gmock.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>

#include "boot/fake_kernel.h"
#include "vm/layout.h"

namespace veneer::vm {
namespace {

using testing::HasSubstr;
using testing::Not;

/// The table with this signature, cut out of all tables.
std::vector<std::byte> find_table(std::span<const std::byte> all, const char* signature) {
  for (std::size_t at = 0; at + 36 <= all.size(); at += 16) {
    std::uint32_t length = 0;
    std::memcpy(&length, all.data() + at + 4, sizeof length);
    if (std::memcmp(all.data() + at, signature, 4) == 0 && length <= all.size() - at)
      return {all.begin() + static_cast<std::ptrdiff_t>(at), all.begin() + static_cast<std::ptrdiff_t>(at + length)};
  }
  return {};
}

std::string disassemble(std::span<const std::byte> table) {
  const boot::TemporaryFile file(table);
  const std::string command = std::string(VENEER_IASL) + " -d " + file.path() + " > /dev/null 2>&1";
  EXPECT_EQ(std::system(command.c_str()), 0);
  const std::string source = file.path() + ".dsl";
  std::ifstream in(source);
  std::ostringstream text;
  text << in.rdbuf();
  std::remove(source.c_str());
  return text.str();
}

std::string table_of(MachineKind kind, const char* signature, IommuKind iommu = IommuKind::None) {
  MachineConfig config;
  config.iommu = iommu;
  config.machine = kind;
  config.memory_bytes = 5 * GiB;
  const auto all = devices::build_acpi_tables(describe_platform(config), GuestPhys{layout::ACPI_TABLES_BASE});
  return disassemble(find_table(all, signature));
}

TEST(AcpiPlatform, TheSsdtHasTheWindowBelowFourGigabytes) {
  EXPECT_THAT(table_of(MachineKind::Pc, "SSDT"), HasSubstr("0xC0000000,         // Range Minimum"));
}

TEST(AcpiPlatform, TheSsdtHasTheWindowAboveTheRam) {
  EXPECT_THAT(table_of(MachineKind::Pc, "SSDT"), HasSubstr("0x0000000180000000, // Range Minimum"));
}

TEST(AcpiPlatform, TheBridgeOfAPcHasTheOldPorts) {
  EXPECT_THAT(table_of(MachineKind::Pc, "SSDT"), HasSubstr("0x0CF7"));  // the last port below the bridge's own
}

TEST(AcpiPlatform, TheSsdtRoutesTheLastSlot) {
  EXPECT_THAT(table_of(MachineKind::Micro, "SSDT"), HasSubstr("0x001FFFFF"));
}

TEST(AcpiPlatform, TheSsdtHasNoUnknownOpcodes) {
  EXPECT_THAT(table_of(MachineKind::Pc, "SSDT"), Not(HasSubstr("Unknown")));
}

TEST(AcpiPlatform, TheHpetTableSaysWhereItIs) {
  EXPECT_THAT(table_of(MachineKind::Pc, "HPET"), HasSubstr("00000000FED00000"));
}

TEST(AcpiPlatform, TheIvrsSaysWhereTheIommuIs) {
  const std::string ivrs = table_of(MachineKind::Pc, "IVRS", IommuKind::Amd);
  EXPECT_THAT(ivrs, HasSubstr("DeviceId : 00F8"));
  EXPECT_THAT(ivrs, HasSubstr("Capability Offset : 0040"));
  EXPECT_THAT(ivrs, HasSubstr("Base Address : 00000000FED80000"));
}

TEST(AcpiPlatform, TheIvrsNamesTheIoApicAndTheHpet) {
  const std::string ivrs = table_of(MachineKind::Pc, "IVRS", IommuKind::Amd);
  EXPECT_THAT(ivrs, HasSubstr("Source Used Device ID : 00A0"));
  EXPECT_THAT(ivrs, HasSubstr("Source Used Device ID : 00A1"));
}

TEST(AcpiPlatform, WithoutAnIommuThereIsNoIvrs) {
  const auto all = devices::build_acpi_tables(describe_platform({}), GuestPhys{layout::ACPI_TABLES_BASE});
  EXPECT_TRUE(find_table(all, "IVRS").empty());
  EXPECT_FALSE(find_table(all, "APIC").empty());
}

TEST(AcpiPlatform, APcHasAMouse) { EXPECT_THAT(table_of(MachineKind::Pc, "DSDT"), HasSubstr("PNP0F13")); }

TEST(AcpiPlatform, APcHasAKeyboardController) { EXPECT_THAT(table_of(MachineKind::Pc, "DSDT"), HasSubstr("PNP0303")); }

TEST(AcpiPlatform, AMicroHasAPowerButtonDevice) {
  EXPECT_THAT(table_of(MachineKind::Micro, "DSDT"), HasSubstr("PNP0C0C"));
}

TEST(AcpiPlatform, ThePmBlockStandsWhereTheFloorPlanSays) {
  EXPECT_THAT(table_of(MachineKind::Pc, "FACP"), HasSubstr("PM1A Event Block Address : 00000600"));
}

}  // namespace
}  // namespace veneer::vm
