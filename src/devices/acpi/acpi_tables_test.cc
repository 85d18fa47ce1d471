// Structure of the generated tables: signatures, lengths, checksums, pointers.
#include "devices/acpi/acpi_tables.h"

#include <gmock/gmock.h>

#include <cstring>
#include <map>
#include <string>

namespace veneer::devices {
namespace {

constexpr GuestPhys base{0xe0000};

unsigned sum(std::span<const std::byte> bytes) {
  unsigned total = 0;
  for (const std::byte byte : bytes) total += static_cast<unsigned>(byte);
  return total & 0xff;
}

class AcpiTablesTest : public testing::Test {
 protected:
  AcpiTablesTest() {
    // A DSDT is a header and AML; here just the header.
    dsdt.assign(36, 0);
    std::memcpy(dsdt.data(), "DSDT", 4);
    dsdt[4] = 36;
    dsdt[9] = static_cast<std::uint8_t>(0u - sum(std::as_bytes(std::span(dsdt))));
    platform.dsdt = dsdt;
    platform.cpus = 3;
    platform.local_apic_base = 0xfee00000;
    platform.io_apic_base = 0xfec00000;
    platform.pm_port = 0x600;
    platform.reset_port = 0xcf9;
    platform.overrides = {{0, 2, false}, {9, 9, true}};
    platform.pci_routes = {{1, 0, 17}};
    platform.pci_memory32 = {{0xc0000000, 0x1000}};
  }
  template <typename T>
  T at(std::uint64_t address) {
    T value{};
    std::memcpy(&value, bytes.data() + (address - base.value), sizeof value);
    return value;
  }
  std::span<const std::byte> table_at(std::uint64_t address) {
    return std::span(bytes).subspan(address - base.value, at<std::uint32_t>(address + 4));
  }
  std::map<std::string, std::uint64_t> tables() {
    bytes = build_acpi_tables(platform, base);
    std::map<std::string, std::uint64_t> found;
    const auto xsdt = at<std::uint64_t>(base.value + 24);
    for (std::uint64_t entry = xsdt + 36; entry < xsdt + at<std::uint32_t>(xsdt + 4); entry += 8) {
      const auto address = at<std::uint64_t>(entry);
      found[std::string(reinterpret_cast<const char*>(bytes.data() + (address - base.value)), 4)] = address;
    }
    found["XSDT"] = xsdt;
    found["RSDT"] = at<std::uint32_t>(base.value + 16);
    found["DSDT"] = at<std::uint64_t>(found["FACP"] + 140);
    return found;
  }

  std::vector<std::uint8_t> dsdt;
  AcpiPlatform platform;
  std::vector<std::byte> bytes;
};

TEST_F(AcpiTablesTest, TheRsdpComesFirstWithBothChecksums) {
  tables();
  EXPECT_EQ(std::memcmp(bytes.data(), "RSD PTR ", 8), 0);
  EXPECT_EQ(sum(std::span(bytes).first(20)), 0u);
  EXPECT_EQ(sum(std::span(bytes).first(36)), 0u);
}

TEST_F(AcpiTablesTest, RsdtAndXsdtNameTheSameTables) {
  auto found = tables();
  const std::uint64_t rsdt = found["RSDT"], xsdt = found["XSDT"];
  EXPECT_EQ(std::memcmp(bytes.data() + (rsdt - base.value), "RSDT", 4), 0);
  const unsigned count = (at<std::uint32_t>(xsdt + 4) - 36) / 8;
  ASSERT_EQ(at<std::uint32_t>(rsdt + 4), 36 + count * 4);
  for (unsigned i = 0; i < count; ++i)
    EXPECT_EQ(at<std::uint32_t>(rsdt + 36 + i * 4), at<std::uint64_t>(xsdt + 36 + i * 8)) << i;
}

TEST_F(AcpiTablesTest, EveryTableSumsToZero) {
  for (const auto& [name, address] : tables()) EXPECT_EQ(sum(table_at(address)), 0u) << name;
}

TEST_F(AcpiTablesTest, ListsFadtMadtAndSsdt) {
  using testing::Key;
  EXPECT_THAT(tables(), testing::IsSupersetOf({Key("FACP"), Key("APIC"), Key("SSDT")}));
}

TEST_F(AcpiTablesTest, TheFacsIsAligned) {
  const auto facs = at<std::uint32_t>(tables()["FACP"] + 36);
  EXPECT_EQ(facs % 64, 0u);
  EXPECT_EQ(std::memcmp(bytes.data() + (facs - base.value), "FACS", 4), 0);
}

TEST_F(AcpiTablesTest, AReducedMachineSaysSo) {
  platform.hardware_reduced = true;
  EXPECT_NE(at<std::uint32_t>(tables()["FACP"] + 112) & (1u << 20), 0u);
}

TEST_F(AcpiTablesTest, TheTimerHas32Bits) {
  EXPECT_NE(at<std::uint32_t>(tables()["FACP"] + 112) & (1u << 8), 0u);
}

TEST_F(AcpiTablesTest, AReducedMachineHasNoTimerNorRtc) {
  platform.hardware_reduced = true;
  const auto fadt = tables()["FACP"];
  EXPECT_EQ(at<std::uint32_t>(fadt + 76), 0u);
  EXPECT_NE(at<std::uint16_t>(fadt + 109) & (1u << 5), 0u);
}

TEST_F(AcpiTablesTest, TheMadtHasOneEntryPerProcessor) {
  const auto madt = tables()["APIC"];
  unsigned processors = 0;
  for (std::uint64_t at_entry = madt + 44; at_entry < madt + at<std::uint32_t>(madt + 4);
       at_entry += at<std::uint8_t>(at_entry + 1))
    processors += at<std::uint8_t>(at_entry) == 0;
  EXPECT_EQ(processors, 3u);
}

TEST_F(AcpiTablesTest, TheSystemControlInterruptIsLevelTriggered) {
  const auto madt = tables()["APIC"];
  std::uint16_t flags = 0;
  for (std::uint64_t at_entry = madt + 44; at_entry < madt + at<std::uint32_t>(madt + 4);
       at_entry += at<std::uint8_t>(at_entry + 1))
    if (at<std::uint8_t>(at_entry) == 2 && at<std::uint8_t>(at_entry + 3) == 9) flags = at<std::uint16_t>(at_entry + 8);
  EXPECT_EQ(flags, 0xdu);
}

TEST_F(AcpiTablesTest, TwoHundredFiftyFiveProcessorsFit) {
  platform.cpus = 255;
  for (const auto& [name, address] : tables()) EXPECT_EQ(sum(table_at(address)), 0u) << name;
}

/// Carries out the loader's script as firmware does, tables at one address and the RSDP at another.
class AcpiFilesTest : public AcpiTablesTest {
 protected:
  static constexpr std::uint64_t tables_base = 0xfff0000, rsdp_base = 0xf5a00;
  void load() {
    files = build_acpi_files(platform);
    for (std::size_t at_command = 0; at_command < files.loader.size(); at_command += 128) carry_out(at_command);
  }
  template <typename T>
  static T get(const std::vector<std::byte>& from, std::size_t offset) {
    T value{};
    std::memcpy(&value, from.data() + offset, sizeof value);
    return value;
  }
  std::vector<std::byte>& file(std::size_t name_at) {
    const std::string name(reinterpret_cast<const char*>(files.loader.data() + name_at));
    EXPECT_TRUE(name == acpi_tables_file || name == acpi_rsdp_file) << name;
    return name == acpi_rsdp_file ? files.rsdp : files.tables;
  }
  void carry_out(std::size_t at_command) {
    const std::size_t first = at_command + 4, second = first + 56;
    switch (get<std::uint32_t>(files.loader, at_command)) {
      case 1:
        ++allocations;
        break;
      case 2: {
        std::vector<std::byte>& in = file(first);
        const std::uint64_t to = &file(second) == &files.tables ? tables_base : rsdp_base;
        const auto offset = get<std::uint32_t>(files.loader, second + 56);
        const auto size = get<std::uint8_t>(files.loader, second + 60);
        std::uint64_t value = 0;
        std::memcpy(&value, in.data() + offset, size);
        value += to;
        std::memcpy(in.data() + offset, &value, size);
        break;
      }
      case 3: {
        std::vector<std::byte>& in = file(first);
        const auto result = get<std::uint32_t>(files.loader, first + 56);
        const auto start = get<std::uint32_t>(files.loader, first + 60);
        const auto length = get<std::uint32_t>(files.loader, first + 64);
        EXPECT_EQ(in[result], std::byte{0});
        in[result] = static_cast<std::byte>(0u - sum(std::span(in).subspan(start, length)));
        break;
      }
      default:
        ADD_FAILURE() << "unknown command";
    }
  }
  AcpiFiles files;
  unsigned allocations = 0;
};

TEST_F(AcpiFilesTest, TheRsdpIsWhole) {
  load();
  EXPECT_EQ(allocations, 2u);
  EXPECT_EQ(sum(std::span(files.rsdp).first(20)), 0u);
  EXPECT_EQ(sum(files.rsdp), 0u);
}

TEST_F(AcpiFilesTest, EveryTableOfTheXsdtIsWhole) {
  load();
  const auto xsdt = get<std::uint64_t>(files.rsdp, 24) - tables_base;
  const auto length = get<std::uint32_t>(files.tables, xsdt + 4);
  EXPECT_EQ(sum(std::span(files.tables).subspan(xsdt, length)), 0u);
  for (std::uint64_t entry = xsdt + 36; entry < xsdt + length; entry += 8) {
    const auto table = get<std::uint64_t>(files.tables, entry) - tables_base;
    EXPECT_EQ(sum(std::span(files.tables).subspan(table, get<std::uint32_t>(files.tables, table + 4))), 0u);
  }
}

TEST_F(AcpiFilesTest, TheRsdtIsWholeAndLeadsToTheSameFadt) {
  load();
  const auto rsdt = get<std::uint32_t>(files.rsdp, 16) - tables_base;
  const auto xsdt = get<std::uint64_t>(files.rsdp, 24) - tables_base;
  EXPECT_EQ(sum(std::span(files.tables).subspan(rsdt, get<std::uint32_t>(files.tables, rsdt + 4))), 0u);
  EXPECT_EQ(get<std::uint32_t>(files.tables, rsdt + 36), get<std::uint64_t>(files.tables, xsdt + 36));
}

TEST_F(AcpiFilesTest, TheFadtLeadsToTheDsdt) {
  load();
  const auto xsdt = get<std::uint64_t>(files.rsdp, 24) - tables_base;
  const auto fadt = get<std::uint64_t>(files.tables, xsdt + 36) - tables_base;
  const auto dsdt_at = get<std::uint64_t>(files.tables, fadt + 140) - tables_base;
  EXPECT_EQ(get<std::uint32_t>(files.tables, fadt + 40) - tables_base, dsdt_at);
  EXPECT_EQ(std::memcmp(files.tables.data() + dsdt_at, "DSDT", 4), 0);
}

}  // namespace
}  // namespace veneer::devices
