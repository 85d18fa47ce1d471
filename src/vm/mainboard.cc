// The wiring of a machine: assemble() is its back panel, the tables of layout.h its floor plan.
#include "vm/mainboard.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <deque>
#include <optional>
#include <span>

#include "base/assert.h"
#include "base/bits.h"
#include "boot/absent_bios.h"
#include "cpu/cpuid_features.h"
#include "devices/acpi/acpi_pm.h"
#include "devices/acpi/acpi_sleep.h"
#include "devices/acpi/acpi_tables.h"
#include "devices/display/vga.h"
#include "devices/firmware/debug_console.h"
#include "devices/firmware/fw_cfg.h"
#include "devices/firmware/system_ports.h"
#include "devices/floppy/floppy_controller.h"
#include "devices/ide/ide_controller.h"
#include "devices/input/ps2_keyboard.h"
#include "devices/input/ps2_mouse.h"
#include "devices/input/typist.h"
#include "devices/iommu/amd_iommu_function.h"
#include "devices/irq/irq_split.h"
#include "devices/irq/pic8259.h"
#include "devices/legacy/coprocessor_error.h"
#include "devices/legacy/debug_exit.h"
#include "devices/legacy/hpet.h"
#include "devices/legacy/i8042.h"
#include "devices/legacy/isa_dma.h"
#include "devices/legacy/pit8254.h"
#include "devices/legacy/post_code.h"
#include "devices/legacy/reset_port.h"
#include "devices/legacy/rtc_cmos.h"
#include "devices/legacy/test_device.h"
#include "devices/pci/host_bridge.h"
#include "devices/pci/pci_bus.h"
#include "devices/pci/piix.h"
#include "devices/virtio/virtio_balloon.h"
#include "devices/virtio/virtio_console.h"
#include "devices/virtio/virtio_pci.h"
#include "devices/virtio/virtio_rng.h"
#include "vm/acpi_platform.h"
#include "vm/firmware_items.h"
#include "vm/layout.h"
#include "vm/smbios_platform.h"
#include "vm/vcpu_thread.h"

namespace veneer::vm {
namespace {

/// A wire whose far end is soldered on later: the 8259 exists before the local APIC it interrupts.
struct Wire final : machine::IrqLine {
  machine::IrqLine* to = nullptr;
  void set(bool level) override {
    if (to) to->set(level);
  }
};

struct NullSink final : machine::CharSink {
  void write(std::span<const std::uint8_t>) override {}
};

constexpr unsigned gsi_of(unsigned irq) {
  for (const layout::IsaRoute& route : layout::isa_routes)
    if (route.irq == irq) return route.gsi;
  return irq;
}

}  // namespace

/// What only a pc has. Members come up in this order, so wires stand before what they connect.
struct Mainboard::LegacyIo {
  Wire intr;
  devices::Pic8259Pair pic{intr};
  std::deque<devices::IrqSplit> isa_lines;                      // 8259 input and IOAPIC pin of one interrupt
  std::unique_ptr<devices::ReplaceableIrq> timer_irq, rtc_irq;  // of the 8254 and the RTC, or of the HPET
  std::unique_ptr<devices::Hpet> hpet;
  std::unique_ptr<devices::Pit8254> pit;
  std::unique_ptr<devices::RtcCmos> rtc;
  std::unique_ptr<devices::Ps2Keyboard> keyboard;
  devices::Ps2Mouse mouse;
  std::unique_ptr<devices::Ps2Controller8042> keyboard_controller;
  std::unique_ptr<devices::Typist> typist;
  std::unique_ptr<devices::CoprocessorError> coprocessor_error;
  std::unique_ptr<devices::AcpiPm> power_management;
  std::unique_ptr<devices::SystemControlPort> port92;
  devices::ApmPorts apm;
  std::unique_ptr<devices::IsaDma> dma;
  std::unique_ptr<devices::FloppyController> floppy;
  std::unique_ptr<devices::FwCfg> fw_cfg;
  devices::TestPorts test_ports;
  devices::TestMemory test_memory;
  std::unique_ptr<devices::TestLines> test_lines;
  std::unique_ptr<devices::Piix3IsaBridge> isa_bridge;
  std::unique_ptr<devices::Piix4PowerManagement> pm_function;
  std::unique_ptr<devices::IdeController> ide;
  std::uint16_t pm_mapped = 0;  // where power_management answers now; 0: nowhere
};

/// What only a pc that starts in firmware has.
struct Mainboard::FirmwareIo {
  devices::DebugConsole debug_console;
  devices::VgaFunction vga;
  std::unique_ptr<devices::CfiFlash> flash;
};

/// What every machine has.
struct Mainboard::Sockets {
  Sockets(const BoardSupply& supply, const devices::PciSurroundings& around, const machine::DmaSpace& rng_memory)
      : reset_port(supply.power),
        debug_exit(supply.power),
        pci(around),
        host_bridge([&memory = supply.memory](std::uint32_t base, std::uint32_t bytes, bool reads, bool writes) {
          memory.set_shadow(
              GuestPhys{base}, bytes,
              static_cast<std::uint8_t>((reads ? machine::SHADOW_READS : 0) | (writes ? machine::SHADOW_WRITES : 0)));
        }),
        rng(rng_memory),
        rng_function("virtio-rng", rng, rng_memory) {}
  NullSink nowhere;
  std::unique_ptr<devices::Uart16550> uart;
  devices::PostCode post;
  devices::ResetPort reset_port;
  devices::DebugExit debug_exit;
  std::unique_ptr<devices::AcpiSleep> sleep;  // micro only
  devices::PciBus pci;
  devices::HostBridge host_bridge;
  devices::VirtioRng rng;
  devices::VirtioPci rng_function;
  std::unique_ptr<devices::VirtioBalloon> balloon;
  std::unique_ptr<devices::VirtioPci> balloon_function;
  std::unique_ptr<devices::VirtioConsole> console;
  std::unique_ptr<devices::VirtioPci> console_function;
};

Mainboard::Mainboard(const MachineConfig& config, const BoardSupply& supply)
    : config_(config),
      supply_(supply),
      ports_("port", supply.lock),
      memory_bus_("memory", supply.lock),
      apic_bus_(supply.lock),
      io_apic_(apic_bus_, supply.timers, layout::IOAPIC_REQUESTER) {}

Mainboard::~Mainboard() = default;

Result<std::unique_ptr<Mainboard>> Mainboard::create(const MachineConfig& config, const BoardSupply& supply) {
  std::unique_ptr<Mainboard> board(new Mainboard(config, supply));
  const std::lock_guard hold(supply.lock);
  TRY_VOID(board->assemble());
  return board;
}

/// The back panel.
Result<void> Mainboard::assemble() {
  if (config_.machine == MachineKind::Pc) legacy_ = std::make_unique<LegacyIo>();

  // Processors: a local APIC each; the 8259's INTR enters at LINT0 of the first.
  const devices::LapicConfig apic_config{
      supply_.tsc_hz,        [&tsc = supply_.tsc] { return tsc.now(); }, 1'000'000'000,
      supply_.physical_bits, has(supply_.cpuid, cpu::Feature::APIC),     has(supply_.cpuid, cpu::Feature::X2APIC)};
  for (unsigned i = 0; i < config_.cpus; ++i) {
    local_apics_.push_back(std::make_unique<devices::LocalApic>(i, apic_bus_, supply_.timers,
                                                                legacy_ ? &legacy_->pic : nullptr, apic_config));
    devices_.push_back(local_apics_.back().get());
  }
  TRY_VOID(plug_memory(layout::IOAPIC_BASE, layout::IOAPIC_SIZE, io_apic_, "IOAPIC"));
  if (config_.iommu == IommuKind::Amd) TRY_VOID(plug_iommu());

  std::array<machine::IrqLine*, layout::PCI_GSI_COUNT> pci_lines{};
  for (unsigned pin = 0; pin < pci_lines.size(); ++pin) pci_lines[pin] = &io_apic_.input(layout::PCI_FIRST_GSI + pin);
  sockets_ = std::make_unique<Sockets>(supply_, devices::PciSurroundings{memory_bus_, ports_, apic_bus_, pci_lines},
                                       dma(layout::VIRTIO_RNG_SLOT));
  if (legacy_) TRY_VOID(plug_legacy());

  // Serial port
  machine::CharSink& out = config_.serial ? *config_.serial : sockets_->nowhere;
  sockets_->uart = std::make_unique<devices::Uart16550>(isa_irq(layout::COM1_IRQ), out);
  TRY_VOID(plug_port(layout::COM1_PORT, 8, *sockets_->uart, "COM1"));

  // Power
  TRY_VOID(plug_port(layout::POST_PORT, 1, sockets_->post, "POST code"));
  if (config_.debug_exit) TRY_VOID(plug_port(layout::DEBUG_EXIT_PORT, 1, sockets_->debug_exit, "debug exit"));
  devices_.push_back(&sockets_->reset_port);
  if (!legacy_) {
    sockets_->sleep = std::make_unique<devices::AcpiSleep>(isa_irq(layout::SCI_IRQ), supply_.power);
    TRY_VOID(plug_port(layout::ACPI_PM_PORT, 4, *sockets_->sleep, "ACPI sleep registers"));
  }

  return plug_pci();
}

Result<void> Mainboard::plug_legacy() {
  LegacyIo& io = *legacy_;
  io.intr.to = &local_apics_[0]->lint0();
  TRY_VOID(plug_port(layout::PIC_MASTER_PORT, 2, io.pic.master(), "8259 master"));
  TRY_VOID(plug_port(layout::PIC_SLAVE_PORT, 2, io.pic.slave(), "8259 slave"));
  TRY_VOID(plug_port(layout::ELCR_PORT, 2, io.pic.elcr(), "ELCR"));

  io.timer_irq = std::make_unique<devices::ReplaceableIrq>(isa_irq(layout::TIMER_IRQ));
  io.rtc_irq = std::make_unique<devices::ReplaceableIrq>(isa_irq(layout::RTC_IRQ));
  devices::Hpet::Wiring hpet{*io.timer_irq, *io.rtc_irq, {}, [this](std::uint64_t address, std::uint32_t data) {
                               apic_bus_.msi(address, data, layout::HPET_REQUESTER);
                             }};
  for (unsigned pin = layout::HPET_FIRST_GSI; pin < layout::HPET_FIRST_GSI + layout::HPET_GSI_COUNT; ++pin)
    hpet.pins[pin] = &io_apic_.input(pin);
  io.hpet = std::make_unique<devices::Hpet>(hpet, supply_.timers);
  TRY_VOID(plug_memory(layout::HPET_BASE, layout::HPET_SIZE, *io.hpet, "HPET"));

  io.pit = std::make_unique<devices::Pit8254>(io.timer_irq->legacy(), supply_.timers);
  TRY_VOID(plug_port(layout::PIT_PORT, 4, *io.pit, "8254"));
  TRY_VOID(plug_port(layout::PORT_61, 1, io.pit->port61(), "port 61h"));

  io.rtc = std::make_unique<devices::RtcCmos>(io.rtc_irq->legacy(), supply_.timers);
  TRY_VOID(plug_port(layout::RTC_PORT, 2, *io.rtc, "RTC"));

  io.keyboard = std::make_unique<devices::Ps2Keyboard>(supply_.timers);
  io.keyboard_controller =
      std::make_unique<devices::Ps2Controller8042>(isa_irq(layout::KEYBOARD_IRQ), isa_irq(layout::MOUSE_IRQ),
                                                   *io.keyboard, io.mouse, [&power = supply_.power] { power.reset(); });
  TRY_VOID(plug_port(layout::KBC_DATA_PORT, 1, io.keyboard_controller->data_port(), "8042 data"));
  TRY_VOID(plug_port(layout::KBC_COMMAND_PORT, 1, io.keyboard_controller->command_port(), "8042 command"));
  io.typist = std::make_unique<devices::Typist>(
      supply_.timers, *io.keyboard, [&controller = *io.keyboard_controller] { return controller.keyboard_idle(); });

  io.dma = std::make_unique<devices::IsaDma>(supply_.memory);
  TRY_VOID(plug_port(layout::DMA1_PORT, 16, io.dma->master(), "DMA 1"));
  TRY_VOID(plug_port(layout::DMA2_PORT, 32, io.dma->slave(), "DMA 2"));
  TRY_VOID(plug_port(layout::DMA_PAGE_PORT, 15, io.dma->page_registers(), "DMA page registers"));

  io.coprocessor_error = std::make_unique<devices::CoprocessorError>(isa_irq(layout::COPROCESSOR_IRQ));
  TRY_VOID(plug_port(layout::COPROCESSOR_PORT, 2, *io.coprocessor_error, "coprocessor error"));

  io.power_management = std::make_unique<devices::AcpiPm>(isa_irq(layout::SCI_IRQ), supply_.timers, supply_.power);
  devices_.push_back(io.power_management.get());  // pm_function says where it answers

  io.port92 = std::make_unique<devices::SystemControlPort>([&power = supply_.power] { power.reset(); });
  TRY_VOID(plug_port(layout::PORT_92, 1, *io.port92, "port 92h"));
  TRY_VOID(plug_port(layout::APM_PORT, 2, io.apm, "APM"));

  io.fw_cfg = std::make_unique<devices::FwCfg>(supply_.memory);
  add_machine_items(config_, *io.fw_cfg);
  TRY_VOID(plug_port(layout::FW_CFG_PORT, 12, *io.fw_cfg, "fw_cfg"));
  return config_.debug_exit ? plug_test_devices() : Result<void>{};
}

/// What test kernels that end through the debug exit port expect beside it.
Result<void> Mainboard::plug_test_devices() {
  LegacyIo& io = *legacy_;
  devices::TestLines::Lines lines{};
  for (unsigned irq = 0; irq < lines.size(); ++irq) lines[irq] = &isa_irq(irq);
  io.test_lines = std::make_unique<devices::TestLines>(lines);
  TRY_VOID(plug_port(layout::TEST_PORT, 12, io.test_ports, "test ports"));
  TRY_VOID(plug_port(layout::TEST_LINES_PORT, devices::TestLines::line_count, *io.test_lines, "test lines"));
  return plug_memory(layout::TEST_MEMORY_BASE, devices::TestMemory::size_bytes, io.test_memory, "test memory");
}

/// ISA bridge and power management function of the PIIX.
void Mainboard::plug_piix() {
  LegacyIo& io = *legacy_;
  devices::Piix3IsaBridge::IsaLines lines{};
  for (const std::uint8_t irq : layout::PIRQ_TARGETS) lines[irq] = &isa_irq(irq);
  io.isa_bridge = std::make_unique<devices::Piix3IsaBridge>(lines);
  io.pm_function = std::make_unique<devices::Piix4PowerManagement>(
      [this](std::optional<std::uint16_t> base) { move_power_management(base); });
  devices::PciBus& pci = sockets_->pci;
  pci.plug(layout::PIIX_SLOT, 0, *io.isa_bridge);
  pci.plug(layout::PIIX_SLOT, 3, *io.pm_function);
  pci.set_line_listener(
      [&io](unsigned line, bool level) { io.isa_bridge->set_pirq(layout::pirq_of_line(line), level); });
}

/// Behind no IOMMU, whatever else is: it is about guest-physical memory, and Linux tells it the addresses of its rings
/// as such. Who asked for all memory in advance does not want pages to come and go with what the guest has free.
void Mainboard::plug_balloon() {
  using devices::VirtioBalloon;
  Sockets& board = *sockets_;
  board.balloon = std::make_unique<VirtioBalloon>(
      supply_.memory, supply_.timers,
      config_.prealloc ? VirtioBalloon::Reports::Keep : VirtioBalloon::Reports::Discard);
  board.balloon_function = std::make_unique<devices::VirtioPci>("virtio-balloon", *board.balloon, supply_.memory);
  board.pci.plug(layout::VIRTIO_BALLOON_SLOT, *board.balloon_function);
}

void Mainboard::plug_console() {
  Sockets& board = *sockets_;
  machine::CharSink& out = config_.console_output ? *config_.console_output : board.nowhere;
  board.console = std::make_unique<devices::VirtioConsole>(dma(layout::VIRTIO_CONSOLE_SLOT), out);
  board.console_function =
      std::make_unique<devices::VirtioPci>("virtio-console", *board.console, dma(layout::VIRTIO_CONSOLE_SLOT));
  board.pci.plug(layout::VIRTIO_CONSOLE_SLOT, *board.console_function);
}

/// With firmware always; for a kernel that is booted directly only when there is a drive.
Result<void> Mainboard::plug_ide() {
  const bool wanted = std::any_of(config_.disks.begin(), config_.disks.end(),
                                  [](const DiskConfig& disk) { return disk.interface == DiskInterface::Ide; });
  if (!legacy_ || (!wanted && !config_.firmware.present())) return {};
  legacy_->ide = std::make_unique<devices::IdeController>(isa_irq(layout::IDE1_IRQ), isa_irq(layout::IDE2_IRQ),
                                                          dma(layout::PIIX_SLOT, 1));
  devices::IdeController& ide = *legacy_->ide;
  sockets_->pci.plug(layout::PIIX_SLOT, 1, ide);
  TRY_VOID(plug_port(layout::IDE1_PORT, 8, ide.channel(0), "IDE 1"));
  TRY_VOID(plug_port(layout::IDE1_CONTROL_PORT, 1, ide.channel(0).control_port(), "IDE 1 control"));
  TRY_VOID(plug_port(layout::IDE2_PORT, 8, ide.channel(1), "IDE 2"));
  return plug_port(layout::IDE2_CONTROL_PORT, 1, ide.channel(1).control_port(), "IDE 2 control");
}

/// Only with drives: firmware and guests would look for some all the same.
Result<void> Mainboard::plug_floppy() {
  const bool wanted = std::any_of(config_.disks.begin(), config_.disks.end(),
                                  [](const DiskConfig& disk) { return disk.interface == DiskInterface::Floppy; });
  if (!legacy_ || !wanted) return {};
  legacy_->floppy = std::make_unique<devices::FloppyController>(isa_irq(layout::FLOPPY_IRQ), *legacy_->dma);
  TRY_VOID(plug_port(layout::FLOPPY_PORT, 6, *legacy_->floppy, "floppy controller"));
  return plug_port(layout::FLOPPY_CHANGE_PORT, 1, legacy_->floppy->change_port(), "floppy change line");
}

/// The setup memory of a PC says which drives there are (IBM AT Technical Reference, "CMOS RAM").
void Mainboard::tell_of_floppies() {
  const std::array<std::uint8_t, max_floppies> types = disks_.floppy_types();
  constexpr std::uint8_t DRIVE_TYPES = 0x10, EQUIPMENT = 0x14;
  constexpr std::uint8_t fpu_and_mouse = 0x06;
  if (types[0] == 0) return;
  legacy_->rtc->set_cmos(DRIVE_TYPES, static_cast<std::uint8_t>(types[0] << 4 | types[1]));
  legacy_->rtc->set_cmos(EQUIPMENT, static_cast<std::uint8_t>(fpu_and_mouse | 1 | (types[1] ? 0x40 : 0)));
}

/// Where something else answers already the registers stay out of reach.
void Mainboard::move_power_management(std::optional<std::uint16_t> base) {
  LegacyIo& io = *legacy_;
  if (io.pm_mapped) ports_.unmap(io.pm_mapped);
  io.pm_mapped = 0;
  if (!base) return;
  if (auto done = ports_.map(*base, layout::ACPI_PM_PORTS, *io.power_management, "ACPI power management"))
    io.pm_mapped = *base;
  else
    log_guest(pm_complaints_, "{}", done.error().message());
}

Result<void> Mainboard::plug_firmware() {
  firmware_ = std::make_unique<FirmwareIo>();
  FirmwareIo& io = *firmware_;
  devices::FwCfg& fw_cfg = *legacy_->fw_cfg;
  TRY_VOID(plug_port(layout::DEBUG_CONSOLE_PORT, 1, io.debug_console, "firmware debug port"));
  sockets_->pci.plug(layout::DISPLAY_SLOT, io.vga);
  TRY_VOID(plug_port(layout::VGA_PORT, 48, io.vga.ports(), "VGA"));
  TRY_VOID(plug_port(layout::VBE_PORT, 3, io.vga.vbe_ports(), "VBE"));
  TRY_VOID(plug_memory(layout::VGA_WINDOW_BASE, layout::SHADOW_BASE - layout::VGA_WINDOW_BASE, io.vga.window(),
                       "VGA memory"));
  if (machine::MemorySlot* const chip = supply_.flash) {
    const std::span contents(reinterpret_cast<std::byte*>(chip->host), chip->size_bytes);
    io.flash = std::make_unique<devices::CfiFlash>(contents, supply_.flash_store, [this, chip](bool array) {
      const auto answers = static_cast<std::uint8_t>(array ? machine::SHADOW_READS : 0);
      supply_.memory.set_shadow(chip->base, chip->size_bytes, answers);
    });
    TRY_VOID(plug_memory(chip->base.value, chip->size_bytes, *io.flash, "flash"));
  }
  BootPaths boot = disks_.boot_paths(config_.boot_order);
  const BootPaths cards = network_.boot_paths();
  boot.insert(config_.boot_order == BootOrder::Network ? boot.begin() : boot.end(), cards.begin(), cards.end());
  TRY_VOID(add_firmware_items(config_, boot, fw_cfg));
  add_acpi_items(config_, layout::ACPI_PM_PORT, fw_cfg);
  add_smbios_items(config_, supply_.cpuid, fw_cfg);
  // The tables name the power management registers, whose place firmware chooses before it reads them.
  fw_cfg.set_refresh([this](const std::string& name) {
    if (name == devices::acpi_loader_file || name == devices::acpi_tables_file)
      add_acpi_items(config_, legacy_->pm_function->base().value_or(layout::ACPI_PM_PORT), *legacy_->fw_cfg);
  });
  fill_cmos(config_, *legacy_->rtc);
  return {};
}

/// Before whatever is behind it. Its registers are saved and restored before functions are, which may want to use
/// memory.
Result<void> Mainboard::plug_iommu() {
  iommu_ = std::make_unique<devices::AmdIommu>(supply_.memory, devices::pci::requester_id(layout::IOMMU_SLOT, 0));
  iommu_function_ = std::make_unique<devices::AmdIommuFunction>(*iommu_, layout::IOMMU_BASE);
  apic_bus_.set_remapper(*iommu_);
  return plug_memory(layout::IOMMU_BASE, devices::amd_iommu::registers_bytes, *iommu_, "IOMMU");
}

/// Memory as a PCI function reaches it. ISA's DMA controllers and fw_cfg are no functions: no IOMMU is before them.
machine::DmaSpace Mainboard::dma(unsigned slot, unsigned function) {
  return {supply_.memory, iommu_.get(), devices::pci::requester_id(slot, function)};
}

Result<void> Mainboard::plug_pci() {
  devices::PciBus& pci = sockets_->pci;
  pci.set_reset_register(sockets_->reset_port);
  pci.plug(layout::HOST_BRIDGE_SLOT, sockets_->host_bridge);
  // Its random numbers would be others each time.
  if (!config_.engine_options.deterministic) pci.plug(layout::VIRTIO_RNG_SLOT, sockets_->rng_function);
  if (config_.balloon) plug_balloon();
  if (config_.console) plug_console();
  if (iommu_function_) pci.plug(layout::IOMMU_SLOT, *iommu_function_);
  if (legacy_) plug_piix();
  TRY_VOID(plug_ide());
  TRY_VOID(plug_floppy());
  TRY_VOID(
      disks_.fill(config_, pci,
                  {[this](unsigned slot) { return dma(slot); }, supply_.events, supply_.lock, supply_.pause_machine,
                   legacy_ ? legacy_->ide.get() : nullptr, legacy_ ? legacy_->floppy.get() : nullptr}));
  TRY_VOID(network_.fill(
      config_, pci, [this](unsigned slot) { return dma(slot); }, supply_.lock));
  TRY_VOID(plug_port(layout::PCI_CONFIG_PORT, 8, pci, "PCI configuration"));
  if (config_.firmware.present()) TRY_VOID(plug_firmware());
  tell_of_floppies();
  return {};
}

Result<void> Mainboard::plug_port(std::uint16_t port, std::uint16_t count, machine::Device& device, const char* label) {
  devices_.push_back(&device);
  return ports_.map(port, count, device, label);
}

Result<void> Mainboard::plug_memory(std::uint64_t base, std::uint64_t size, machine::Device& device,
                                    const char* label) {
  devices_.push_back(&device);
  return memory_bus_.map(base, size, device, label);
}

/// The wire of ISA interrupt `irq`: to the IOAPIC, and on a pc to the 8259 as well.
machine::IrqLine& Mainboard::isa_irq(unsigned irq) {
  machine::IrqLine& pin = io_apic_.input(gsi_of(irq));
  return legacy_ ? legacy_->isa_lines.emplace_back(legacy_->pic.input(irq), pin) : pin;
}

devices::Uart16550& Mainboard::serial() { return *sockets_->uart; }
devices::Vga* Mainboard::screen() { return firmware_ ? &firmware_->vga.vga() : nullptr; }
devices::VirtioBalloon* Mainboard::balloon() { return sockets_->balloon.get(); }
devices::VirtioConsole* Mainboard::console() { return sockets_->console.get(); }
devices::Typist* Mainboard::typist() { return legacy_ ? legacy_->typist.get() : nullptr; }
devices::Ps2Mouse* Mainboard::mouse() { return legacy_ ? &legacy_->mouse : nullptr; }

void Mainboard::press_power_button() {
  if (legacy_)
    legacy_->power_management->press_power_button();
  else
    sockets_->sleep->press_power_button();
}

bool Mainboard::power_button_heard() const {
  return legacy_ ? legacy_->power_management->power_button_heard() : !io_apic_.is_masked(layout::SCI_IRQ);
}

void Mainboard::reset() {
  for (machine::Device* device : devices_) device->reset();
  if (legacy_) legacy_->typist->reset();
  if (firmware_) return;
  if (legacy_) legacy_->pm_function->enable(layout::ACPI_PM_PORT);
  local_apics_[0]->set_virtual_wire();
  sockets_->pci.assign_resources({layout::PCI_WINDOW32_BASE, layout::PCI_WINDOW32_SIZE,
                                  layout::pci_window64_base(config_.memory_bytes), layout::PCI_WINDOW64_SIZE,
                                  layout::PCI_IO_WINDOW_BASE, layout::PCI_IO_WINDOW_SIZE});
}

void Mainboard::save(machine::SnapshotWriter& out) const {
  for (const machine::Device* device : devices_) device->save(out);
  if (legacy_) legacy_->typist->save(out);
}

void Mainboard::restore(machine::SnapshotReader& in) {
  for (machine::Device* device : devices_) device->restore(in);
  if (legacy_) legacy_->typist->restore(in);
}

Result<void> Mainboard::write_tables() {
  const GuestPhys base{layout::ACPI_TABLES_BASE};
  const std::vector<std::byte> tables = devices::build_acpi_tables(describe_platform(config_), base);
  if (tables.size() > layout::SMBIOS_BASE - base.value)
    return Error(fmt::format("{} bytes of ACPI tables are more than there is room for", tables.size()));
  if (!supply_.memory.write(base, tables)) return Error("no RAM for the ACPI tables");

  devices::SmbiosPlatform platform = describe_to_smbios(config_, supply_.cpuid);
  platform.bios = true;
  const GuestPhys anchor{layout::SMBIOS_BASE}, behind{layout::SMBIOS_BASE + 0x20};
  const devices::SmbiosTables smbios = devices::build_smbios(platform, behind);
  if (smbios.tables.size() > boot::BIOS_STUBS - behind)
    return Error(fmt::format("{} bytes of SMBIOS tables are more than there is room for", smbios.tables.size()));
  if (!supply_.memory.write(anchor, smbios.anchor) || !supply_.memory.write(behind, smbios.tables))
    return Error("no RAM for the SMBIOS tables");
  return {};
}

// ---- cpu::Board -----------------------------------------------------------------------------------------------------

std::uint32_t Mainboard::read_port(std::uint16_t port, unsigned size_bytes) {
  return static_cast<std::uint32_t>(ports_.read(port, size_bytes));
}

void Mainboard::write_port(std::uint16_t port, unsigned size_bytes, std::uint32_t value) {
  ports_.write(port, size_bytes, value & byte_mask(size_bytes));
}

void Mainboard::coprocessor_error() {
  const std::lock_guard hold(supply_.lock);
  if (legacy_) legacy_->coprocessor_error->raise();
}

/// The APIC page of the vCPU that asks, while it decodes it: not in x2APIC mode, not when globally disabled.
devices::LocalApic* Mainboard::local_apic_at(GuestPhys address, unsigned size_bytes) {
  devices::LocalApic& apic = *local_apics_[current_vcpu()];
  const std::uint64_t offset = address.value - apic.page_address();
  if (offset >= layout::LAPIC_SIZE || size_bytes > layout::LAPIC_SIZE - offset) return nullptr;
  return apic.enabled() && !apic.x2apic() ? &apic : nullptr;
}

std::uint64_t Mainboard::read_mmio(GuestPhys address, unsigned size_bytes) {
  const std::lock_guard hold(supply_.lock);
  if (devices::LocalApic* apic = local_apic_at(address, size_bytes))
    return apic->read(address.value - apic->page_address(), size_bytes);
  return memory_bus_.read(address.value, size_bytes);
}

void Mainboard::write_mmio(GuestPhys address, unsigned size_bytes, std::uint64_t value) {
  const std::lock_guard hold(supply_.lock);
  if (devices::LocalApic* apic = local_apic_at(address, size_bytes))
    return apic->write(address.value - apic->page_address(), size_bytes, value);
  if (address.value - layout::SHADOW_BASE < layout::EXTENDED_BASE - layout::SHADOW_BASE) {
    (void)supply_.memory.write_hidden(address, std::as_bytes(std::span(&value, 1)).first(size_bytes));
    return;
  }
  memory_bus_.write(address.value, size_bytes, value);
}

void Mainboard::unhalt(std::uint32_t apic_id) {
  const std::lock_guard hold(supply_.lock);
  if (apic_id < local_apics_.size()) local_apics_[apic_id]->unhalt();
}

int Mainboard::send_ipi(unsigned from, std::uint32_t apic_id, std::uint32_t command) {
  if (apic_id >= local_apics_.size()) return 0;
  const std::lock_guard hold(supply_.lock);
  devices::ApicMessage message;
  message.destination = apic_id;
  message.wide_destination = true;
  message.vector = static_cast<std::uint8_t>(command);
  message.delivery_mode = static_cast<devices::DeliveryMode>(Bits<10, 8>::get(command));
  // Of what an ICR says, guests use these two (Linux: kvm_send_ipi_mask).
  if (message.delivery_mode != devices::DeliveryMode::Fixed && message.delivery_mode != devices::DeliveryMode::Nmi)
    return 0;
  static_cast<void>(from);
  return apic_bus_.message(message) ? 1 : 0;
}

}  // namespace veneer::vm
