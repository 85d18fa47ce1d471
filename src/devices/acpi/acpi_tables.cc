// RSDP, XSDT, FADT, FACS, MADT, HPET, IVRS, DSDT and SSDT as bytes.
#include "devices/acpi/acpi_tables.h"

#include <cstring>
#include <string_view>
#include <utility>

#include "base/assert.h"
#include "base/bits.h"
#include "devices/acpi/acpi_pm.h"
#include "devices/acpi/acpi_sleep.h"
#include "devices/acpi/aml.h"

namespace veneer::devices {
namespace {

/// System description table header (ACPI 6.4 table 5.4).
struct [[gnu::packed]] Header {
  char signature[4];
  std::uint32_t length;
  std::uint8_t revision;
  std::uint8_t checksum;
  char oem_id[6];
  char oem_table_id[8];
  std::uint32_t oem_revision;
  char creator_id[4];
  std::uint32_t creator_revision;
};
static_assert(sizeof(Header) == 36);

/// Generic address structure (table 5.1).
struct [[gnu::packed]] GenericAddress {
  std::uint8_t space = 0;  // 1: system I/O
  std::uint8_t bit_width = 0;
  std::uint8_t bit_offset = 0;
  std::uint8_t access_size = 0;  // 1 byte, 2 word, 3 dword
  std::uint64_t address = 0;
};
static_assert(sizeof(GenericAddress) == 12);

constexpr GenericAddress io_register(std::uint16_t port, unsigned bytes) {
  const std::uint8_t access = bytes == 1 ? 1 : bytes == 2 ? 2 : 3;
  return {1, static_cast<std::uint8_t>(bytes * 8), 0, access, port};
}

struct [[gnu::packed]] Rsdp {
  char signature[8] = {'R', 'S', 'D', ' ', 'P', 'T', 'R', ' '};
  std::uint8_t checksum = 0;  // of the first 20 bytes
  char oem_id[6] = {'V', 'E', 'N', 'E', 'E', 'R'};
  std::uint8_t revision = 2;
  std::uint32_t rsdt = 0;
  std::uint32_t length = 36;
  std::uint64_t xsdt = 0;
  std::uint8_t extended_checksum = 0;
  std::uint8_t reserved[3] = {};
};
static_assert(sizeof(Rsdp) == 36);

/// Fixed ACPI description table behind its header (table 5.9).
struct [[gnu::packed]] Fadt {
  std::uint32_t facs = 0;
  std::uint32_t dsdt = 0;
  std::uint8_t reserved1 = 0;
  std::uint8_t preferred_pm_profile = 0;
  std::uint16_t sci_int = 0;
  std::uint32_t smi_cmd = 0;
  std::uint8_t acpi_enable = 0, acpi_disable = 0, s4bios_req = 0, pstate_cnt = 0;
  std::uint32_t pm1a_evt_blk = 0, pm1b_evt_blk = 0, pm1a_cnt_blk = 0, pm1b_cnt_blk = 0;
  std::uint32_t pm2_cnt_blk = 0, pm_tmr_blk = 0, gpe0_blk = 0, gpe1_blk = 0;
  std::uint8_t pm1_evt_len = 0, pm1_cnt_len = 0, pm2_cnt_len = 0, pm_tmr_len = 0;
  std::uint8_t gpe0_blk_len = 0, gpe1_blk_len = 0, gpe1_base = 0, cst_cnt = 0;
  std::uint16_t p_lvl2_lat = 0x65, p_lvl3_lat = 0x3e9;  // just above the limits: no C2, no C3
  std::uint16_t flush_size = 0, flush_stride = 0;
  std::uint8_t duty_offset = 0, duty_width = 0, day_alrm = 0, mon_alrm = 0, century = 0;
  std::uint16_t iapc_boot_arch = 0;
  std::uint8_t reserved2 = 0;
  std::uint32_t flags = 0;
  GenericAddress reset_reg;
  std::uint8_t reset_value = 0;
  std::uint16_t arm_boot_arch = 0;
  std::uint8_t minor_version = 4;
  std::uint64_t x_facs = 0;
  std::uint64_t x_dsdt = 0;
  GenericAddress x_pm1a_evt_blk, x_pm1b_evt_blk, x_pm1a_cnt_blk, x_pm1b_cnt_blk;
  GenericAddress x_pm2_cnt_blk, x_pm_tmr_blk, x_gpe0_blk, x_gpe1_blk;
  GenericAddress sleep_control_reg, sleep_status_reg;
  char hypervisor_vendor[8] = {'V', 'e', 'n', 'e', 'e', 'r', 0, 0};
};
static_assert(sizeof(Header) + sizeof(Fadt) == 276);

// FADT flags (table 5.10)
constexpr std::uint32_t WBINVD = 1u << 0;
constexpr std::uint32_t PROC_C1 = 1u << 2;
constexpr std::uint32_t PWR_BUTTON = 1u << 4;  // no fixed-feature power button
constexpr std::uint32_t SLP_BUTTON = 1u << 5;  // no fixed-feature sleep button
constexpr std::uint32_t FIX_RTC = 1u << 6;     // no RTC wake status in PM1
constexpr std::uint32_t TMR_VAL_EXT = 1u << 8;
constexpr std::uint32_t RESET_REG_SUP = 1u << 10;
constexpr std::uint32_t HW_REDUCED_ACPI = 1u << 20;

// IA-PC boot architecture flags (table 5.11)
constexpr std::uint16_t LEGACY_DEVICES = 1u << 0;
constexpr std::uint16_t KEYBOARD_8042 = 1u << 1;
constexpr std::uint16_t VGA_NOT_PRESENT = 1u << 2;
constexpr std::uint16_t CMOS_RTC_NOT_PRESENT = 1u << 5;

constexpr std::uint8_t RESET_CONTROL_HARD_RESET = 0x06;  // PIIX4 RC register: RCPU and SRST

template <typename T>
void append(std::vector<std::byte>& to, const T& value) {
  const std::size_t at = to.size();
  to.resize(at + sizeof value);
  std::memcpy(to.data() + at, &value, sizeof value);
}

std::uint8_t checksum(std::span<const std::byte> bytes) {
  unsigned sum = 0;
  for (const std::byte byte : bytes) sum += static_cast<unsigned>(byte);
  return static_cast<std::uint8_t>(0u - sum);
}

/// A table with its header, length and checksum.
std::vector<std::byte> table(std::string_view signature, std::uint8_t revision, std::span<const std::byte> body) {
  Header header{{}, static_cast<std::uint32_t>(sizeof(Header) + body.size()), revision, 0, {}, {}, 1, {}, 1};
  std::memcpy(header.signature, signature.data(), 4);
  std::memcpy(header.oem_id, "VENEER", 6);
  std::memcpy(header.oem_table_id, "VENEER  ", 8);
  std::memcpy(header.creator_id, "VNER", 4);
  std::vector<std::byte> out(header.length);
  std::memcpy(out.data(), &header, sizeof header);
  if (!body.empty()) std::memcpy(out.data() + sizeof header, body.data(), body.size());
  out[offsetof(Header, checksum)] = static_cast<std::byte>(checksum(out));
  return out;
}

/// The memory piece under construction.
class Piece {
 public:
  explicit Piece(GuestPhys base) : base_(base) { VENEER_ASSERT(base.value % 64 == 0); }
  std::uint32_t add(std::span<const std::byte> bytes, std::uint64_t alignment = 16) {
    bytes_.resize(align_up(bytes_.size(), alignment));
    const auto address = static_cast<std::uint32_t>(base_.value + bytes_.size());
    const std::size_t at = bytes_.size();
    bytes_.resize(at + bytes.size());
    if (!bytes.empty()) std::memcpy(bytes_.data() + at, bytes.data(), bytes.size());
    return address;
  }
  std::vector<std::byte> take() { return std::move(bytes_); }
  std::vector<std::byte>& bytes() { return bytes_; }

 private:
  GuestPhys base_;
  std::vector<std::byte> bytes_;
};

/// Firmware ACPI control structure (table 5.12): no header, no checksum.
std::vector<std::byte> facs() {
  std::vector<std::byte> out(64);
  std::memcpy(out.data(), "FACS", 4);
  out[4] = std::byte{64};
  out[32] = std::byte{2};  // version
  return out;
}

void describe_fixed_hardware(const AcpiPlatform& platform, Fadt& fadt) {
  const std::uint16_t pm = platform.pm_port;
  fadt.sci_int = platform.sci_irq;
  fadt.pm1a_evt_blk = pm;
  fadt.pm1a_cnt_blk = pm + 4u;
  fadt.pm_tmr_blk = pm + 8u;
  fadt.pm1_evt_len = 4;
  fadt.pm1_cnt_len = 2;
  fadt.pm_tmr_len = 4;
  fadt.x_pm1a_evt_blk = io_register(pm, 4);
  fadt.x_pm1a_evt_blk.access_size = 2;
  fadt.x_pm1a_cnt_blk = io_register(static_cast<std::uint16_t>(pm + 4), 2);
  fadt.x_pm_tmr_blk = io_register(static_cast<std::uint16_t>(pm + 8), 4);
  fadt.century = 0x32;  // where PCs keep it in CMOS
  fadt.iapc_boot_arch = LEGACY_DEVICES | KEYBOARD_8042;
  if (!platform.has_display) fadt.iapc_boot_arch |= VGA_NOT_PRESENT;
  fadt.flags = WBINVD | PROC_C1 | SLP_BUTTON | FIX_RTC | TMR_VAL_EXT | RESET_REG_SUP;
  fadt.reset_reg = io_register(platform.reset_port, 1);
  fadt.reset_value = RESET_CONTROL_HARD_RESET;
}

void describe_reduced_hardware(const AcpiPlatform& platform, Fadt& fadt) {
  const auto port = [&](unsigned offset) { return static_cast<std::uint16_t>(platform.pm_port + offset); };
  fadt.iapc_boot_arch = VGA_NOT_PRESENT | CMOS_RTC_NOT_PRESENT;
  fadt.flags = WBINVD | PROC_C1 | PWR_BUTTON | SLP_BUTTON | FIX_RTC | RESET_REG_SUP | HW_REDUCED_ACPI;
  fadt.sleep_control_reg = io_register(port(0), 1);
  fadt.sleep_status_reg = io_register(port(1), 1);
  fadt.reset_reg = io_register(port(3), 1);
  fadt.reset_value = AcpiSleep::reset_value;
}

std::vector<std::byte> fadt_table(const AcpiPlatform& platform, std::uint32_t facs_at, std::uint32_t dsdt_at) {
  Fadt fadt;
  fadt.facs = facs_at;
  fadt.dsdt = dsdt_at;
  fadt.x_dsdt = dsdt_at;
  if (platform.hardware_reduced)
    describe_reduced_hardware(platform, fadt);
  else
    describe_fixed_hardware(platform, fadt);
  return table("FACP", 6, std::as_bytes(std::span(&fadt, 1)));
}

/// Multiple APIC description table (5.2.12).
std::vector<std::byte> madt(const AcpiPlatform& platform) {
  constexpr std::uint32_t PCAT_COMPAT = 1;
  std::vector<std::byte> body;
  append(body, static_cast<std::uint32_t>(platform.local_apic_base));
  append(body, platform.hardware_reduced ? 0u : PCAT_COMPAT);

  struct [[gnu::packed]] ProcessorLocalApic {
    std::uint8_t type = 0, length = 8, uid, apic_id;
    std::uint32_t flags = 1;  // enabled
  };
  struct [[gnu::packed]] IoApicEntry {
    std::uint8_t type = 1, length = 12, id, reserved = 0;
    std::uint32_t address, gsi_base = 0;
  };
  struct [[gnu::packed]] SourceOverride {
    std::uint8_t type = 2, length = 10, bus = 0, source;
    std::uint32_t gsi;
    std::uint16_t flags;  // MPS INTI flags: 1-0 polarity, 3-2 trigger
  };
  struct [[gnu::packed]] LocalApicNmi {
    std::uint8_t type = 4, length = 6, uid = 0xff;  // all processors
    std::uint16_t flags = 0;
    std::uint8_t lint = 1;
  };
  constexpr std::uint16_t ACTIVE_HIGH = 1, EDGE = 1u << 2, LEVEL = 3u << 2;

  for (unsigned i = 0; i < platform.cpus; ++i)
    append(body, ProcessorLocalApic{.uid = static_cast<std::uint8_t>(i), .apic_id = static_cast<std::uint8_t>(i)});
  append(body, IoApicEntry{.id = platform.io_apic_id, .address = static_cast<std::uint32_t>(platform.io_apic_base)});
  for (const auto& entry : platform.overrides)
    append(body,
           SourceOverride{.source = entry.irq,
                          .gsi = entry.gsi,
                          .flags = static_cast<std::uint16_t>(ACTIVE_HIGH | (entry.level_triggered ? LEVEL : EDGE))});
  append(body, LocalApicNmi{});
  return table("APIC", 5, body);
}

/// IA-PC high precision event timer table (HPET specification 1.0a 3.2.4).
std::vector<std::byte> hpet(const AcpiPlatform& platform) {
  struct [[gnu::packed]] Hpet {
    std::uint32_t block_id;
    GenericAddress base;
    std::uint8_t number = 0;
    std::uint16_t minimum_ticks;
    std::uint8_t page_protection = 0;
  };
  static_assert(sizeof(Hpet) == 20);
  // So many ticks between interrupts of a periodic timer lose none: 100 us.
  const Hpet body{
      .block_id = platform.hpet_block_id, .base = {0, 64, 0, 0, platform.hpet_base}, .minimum_ticks = 10000};
  return table("HPET", 1, std::as_bytes(std::span(&body, 1)));
}

/// I/O virtualization reporting structure (AMD's IOMMU specification, 48882, 5.2): one hardware definition block.
std::vector<std::byte> ivrs(const AcpiPlatform& platform) {
  const AcpiPlatform::AmdIommu& iommu = *platform.amd_iommu;
  struct [[gnu::packed]] Definition {  // IVHD type 10h
    std::uint8_t type = 0x10, flags = 0;
    std::uint16_t length = 0;
    std::uint16_t device_id;
    std::uint16_t capability_offset;
    std::uint64_t base;
    std::uint16_t segment = 0;
    std::uint16_t info = 0;      // MSI message 0
    std::uint32_t features = 0;  // 31-30: HATS
  };
  static_assert(sizeof(Definition) == 24);
  struct [[gnu::packed]] DeviceEntry {
    std::uint8_t type;
    std::uint16_t device_id;
    std::uint8_t setting = 0;
  };
  struct [[gnu::packed]] SpecialDevice {
    std::uint8_t type = 72;
    std::uint16_t reserved = 0;
    std::uint8_t setting;
    std::uint8_t handle;
    std::uint16_t source;
    std::uint8_t variety;
  };
  static_assert(sizeof(DeviceEntry) == 4 && sizeof(SpecialDevice) == 8);
  constexpr std::uint8_t RANGE_START = 3, RANGE_END = 4, IO_APIC = 1, HPET = 2;
  // Of the I/O APIC: INIT, ExtINT, NMI, LINT0 and LINT1 pass, as they would without an IOMMU.
  constexpr std::uint8_t ALL_PASS = 0xc7;

  std::vector<std::byte> entries;
  append(entries, DeviceEntry{RANGE_START, 0});
  append(entries, DeviceEntry{RANGE_END, static_cast<std::uint16_t>(iommu.requester - 1)});
  append(
      entries,
      SpecialDevice{
          .setting = ALL_PASS, .handle = platform.io_apic_id, .source = iommu.io_apic_requester, .variety = IO_APIC});
  if (platform.hpet_base != 0)
    append(entries, SpecialDevice{.setting = 0, .handle = 0, .source = iommu.hpet_requester, .variety = HPET});

  std::vector<std::byte> body;
  append(body, std::uint32_t{2u << 5 | 48u << 8 | 64u << 15});  // addresses: 48 bits guest, 48 physical, 64 virtual
  append(body, std::uint64_t{0});
  Definition definition{.device_id = iommu.requester, .capability_offset = iommu.capability_offset, .base = iommu.base};
  definition.length = static_cast<std::uint16_t>(sizeof definition + entries.size());
  definition.features = std::uint32_t{iommu.host_levels} << 30;
  append(body, definition);
  body.insert(body.end(), entries.begin(), entries.end());
  return table("IVRS", 2, body);
}

/// _CRS and _PRT of the PCI host bridge that the DSDT declares.
std::vector<std::byte> ssdt(const AcpiPlatform& platform) {
  aml::Bytes resources = aml::resource_bus_numbers(0, 0);
  const auto add = [&](const aml::Bytes& more) { resources.insert(resources.end(), more.begin(), more.end()); };
  add(aml::resource_io(platform.pci_config_port, 8));
  for (const auto& window : platform.pci_io)
    add(aml::resource_io_window(static_cast<std::uint16_t>(window.base), static_cast<std::uint32_t>(window.bytes)));
  for (const auto& window : platform.pci_memory32)
    add(aml::resource_memory32_window(static_cast<std::uint32_t>(window.base),
                                      static_cast<std::uint32_t>(window.bytes)));
  for (const auto& window : platform.pci_memory64) add(aml::resource_memory64_window(window.base, window.bytes));

  std::vector<aml::Bytes> routes;  // address (slot, any function), pin, source 0: a GSI, its number (6.2.13)
  for (const auto& route : platform.pci_routes)
    routes.push_back(aml::package({aml::integer((std::uint64_t{route.slot} << 16) | 0xffff), aml::integer(route.pin),
                                   aml::integer(0), aml::integer(route.gsi)}));

  const aml::Bytes body = aml::scope("\\_SB_.PCI0", aml::concatenate({
                                                        aml::name("_CRS", aml::resource_template(resources)),
                                                        aml::name("_PRT", aml::package(routes)),
                                                    }));
  return table("SSDT", 2, std::as_bytes(std::span(body)));
}

constexpr std::uint64_t checksum_at = offsetof(Header, checksum);

/// All tables for a base address, and what to change for another one.
struct Image {
  std::vector<std::byte> bytes;  // with room for the RSDP at the start
  Rsdp rsdp;                     // without checksums
  struct Pointer {
    std::uint32_t at;
    std::uint8_t size_bytes;
  };
  std::vector<Pointer> pointers;
  struct Range {
    std::uint32_t at, length;
  };
  std::vector<Range> changing;  // tables with pointers in them
};

Image build_image(const AcpiPlatform& platform, GuestPhys base) {
  const auto origin = static_cast<std::uint32_t>(base.value);
  Image image;
  Piece piece(base);
  piece.add(std::vector<std::byte>(64));
  const std::uint32_t facs_at = platform.hardware_reduced ? 0 : piece.add(facs(), 64);
  const std::uint32_t dsdt_at = piece.add(std::as_bytes(platform.dsdt));

  const std::vector<std::byte> fadt = fadt_table(platform, facs_at, dsdt_at);
  const std::uint32_t fadt_at = piece.add(fadt) - origin;
  const auto fadt_pointer = [&](std::size_t field, std::uint8_t size_bytes) {
    image.pointers.push_back({fadt_at + static_cast<std::uint32_t>(sizeof(Header) + field), size_bytes});
  };
  if (facs_at != 0) fadt_pointer(offsetof(Fadt, facs), 4);
  fadt_pointer(offsetof(Fadt, dsdt), 4);
  fadt_pointer(offsetof(Fadt, x_dsdt), 8);
  image.changing.push_back({fadt_at, static_cast<std::uint32_t>(fadt.size())});

  std::vector<std::uint32_t> tables = {fadt_at + origin};
  for (const auto& bytes : {madt(platform), ssdt(platform)}) tables.push_back(piece.add(bytes));
  if (platform.hpet_base != 0) tables.push_back(piece.add(hpet(platform)));
  if (platform.amd_iommu) tables.push_back(piece.add(ivrs(platform)));
  const auto add_root = [&](std::string_view signature, std::uint8_t size_bytes) {
    std::vector<std::byte> entries;
    for (const std::uint32_t at : tables) size_bytes == 4 ? append(entries, at) : append(entries, std::uint64_t{at});
    const std::vector<std::byte> root = table(signature, 1, entries);
    const std::uint32_t at = piece.add(root) - origin;
    for (std::uint32_t i = 0; i < entries.size(); i += size_bytes)
      image.pointers.push_back({at + static_cast<std::uint32_t>(sizeof(Header)) + i, size_bytes});
    image.changing.push_back({at, static_cast<std::uint32_t>(root.size())});
    return at + origin;
  };
  // Software of ACPI 1.0 knows only the RSDT, and some (GRUB) takes it for granted.
  image.rsdp.rsdt = add_root("RSDT", 4);
  image.rsdp.xsdt = add_root("XSDT", 8);
  image.bytes = piece.take();
  return image;
}

/// One command of the loader script: always 128 bytes (SeaBIOS src/fw/romfile_loader.h describes it, QEMU's
/// hw/acpi/bios-linker-loader.c defines it).
class LoaderScript {
 public:
  enum class Zone : std::uint8_t { High = 1, FirstSegment = 2 };
  void allocate(std::string_view file, std::uint32_t alignment, Zone zone) {
    begin(1);
    name(file);
    append(bytes_, alignment);
    append(bytes_, zone);
  }
  void add_pointer(std::string_view in, std::string_view to, std::uint32_t at, std::uint8_t size_bytes) {
    begin(2);
    name(in);
    name(to);
    append(bytes_, at);
    append(bytes_, size_bytes);
  }
  void add_checksum(std::string_view file, std::uint32_t result_at, std::uint32_t start, std::uint32_t length) {
    begin(3);
    name(file);
    append(bytes_, result_at);
    append(bytes_, start);
    append(bytes_, length);
  }
  std::vector<std::byte> take() {
    bytes_.resize(align_up(bytes_.size(), command_bytes));
    return std::move(bytes_);
  }

 private:
  static constexpr std::size_t command_bytes = 128, name_bytes = 56;
  void begin(std::uint32_t command) {
    bytes_.resize(align_up(bytes_.size(), command_bytes));
    append(bytes_, command);
  }
  void name(std::string_view text) {
    const std::size_t at = bytes_.size();
    bytes_.resize(at + name_bytes);
    std::memcpy(bytes_.data() + at, text.data(), text.size());
  }
  std::vector<std::byte> bytes_;
};

}  // namespace

std::vector<std::byte> build_acpi_tables(const AcpiPlatform& platform, GuestPhys base) {
  Image image = build_image(platform, base);
  const auto rsdp_bytes = std::as_bytes(std::span(&image.rsdp, 1));
  image.rsdp.checksum = checksum(rsdp_bytes.first(20));
  image.rsdp.extended_checksum = checksum(rsdp_bytes);
  std::memcpy(image.bytes.data(), &image.rsdp, sizeof image.rsdp);
  return std::move(image.bytes);
}

AcpiFiles build_acpi_files(const AcpiPlatform& platform) {
  Image image = build_image(platform, GuestPhys{0});
  LoaderScript script;
  script.allocate(acpi_tables_file, 64, LoaderScript::Zone::High);
  script.allocate(acpi_rsdp_file, 16, LoaderScript::Zone::FirstSegment);
  for (const auto& pointer : image.pointers)
    script.add_pointer(acpi_tables_file, acpi_tables_file, pointer.at, pointer.size_bytes);
  for (const auto& range : image.changing) {
    image.bytes[range.at + checksum_at] = std::byte{0};
    script.add_checksum(acpi_tables_file, range.at + static_cast<std::uint32_t>(checksum_at), range.at, range.length);
  }
  script.add_pointer(acpi_rsdp_file, acpi_tables_file, offsetof(Rsdp, rsdt), 4);
  script.add_pointer(acpi_rsdp_file, acpi_tables_file, offsetof(Rsdp, xsdt), 8);
  script.add_checksum(acpi_rsdp_file, offsetof(Rsdp, checksum), 0, 20);
  script.add_checksum(acpi_rsdp_file, offsetof(Rsdp, extended_checksum), 0, sizeof(Rsdp));

  AcpiFiles files;
  files.tables = std::move(image.bytes);
  const auto rsdp_bytes = std::as_bytes(std::span(&image.rsdp, 1));
  files.rsdp.assign(rsdp_bytes.begin(), rsdp_bytes.end());
  files.loader = script.take();
  return files;
}

}  // namespace veneer::devices
