// The wiring of a machine: assemble() is its back panel, the tables of layout.h its floor plan.
#include "vm/mainboard.h"

#include <fmt/format.h>

#include <array>
#include <deque>
#include <span>

#include "base/assert.h"
#include "base/bits.h"
#include "boot/reset_vector.h"
#include "cpu/cpuid_features.h"
#include "devices/acpi/acpi_pm.h"
#include "devices/acpi/acpi_sleep.h"
#include "devices/irq/irq_split.h"
#include "devices/irq/pic8259.h"
#include "devices/legacy/coprocessor_error.h"
#include "devices/legacy/debug_exit.h"
#include "devices/legacy/i8042.h"
#include "devices/legacy/pit8254.h"
#include "devices/legacy/post_code.h"
#include "devices/legacy/reset_port.h"
#include "devices/legacy/rtc_cmos.h"
#include "devices/pci/host_bridge.h"
#include "devices/pci/pci_bus.h"
#include "devices/virtio/virtio_pci.h"
#include "devices/virtio/virtio_rng.h"
#include "vm/acpi_platform.h"
#include "vm/layout.h"
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
  std::deque<devices::IrqSplit> isa_lines;  // 8259 input and IOAPIC pin of one interrupt
  std::unique_ptr<devices::Pit8254> pit;
  std::unique_ptr<devices::RtcCmos> rtc;
  std::unique_ptr<devices::Ps2Controller8042> keyboard;
  std::unique_ptr<devices::CoprocessorError> coprocessor_error;
  std::unique_ptr<devices::AcpiPm> power_management;
};

/// What every machine has.
struct Mainboard::Sockets {
  Sockets(const BoardSupply& supply, const devices::PciSurroundings& around)
      : reset_port(supply.power),
        debug_exit(supply.power),
        pci(around),
        rng(supply.memory),
        rng_function("virtio-rng", rng, supply.memory) {}
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
};

Mainboard::Mainboard(const MachineConfig& config, const BoardSupply& supply)
    : config_(config),
      supply_(supply),
      ports_("port", supply.lock),
      memory_bus_("memory", supply.lock),
      apic_bus_(supply.lock),
      io_apic_(apic_bus_) {}

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

  std::array<machine::IrqLine*, layout::PCI_GSI_COUNT> pci_lines{};
  for (unsigned pin = 0; pin < pci_lines.size(); ++pin) pci_lines[pin] = &io_apic_.input(layout::PCI_FIRST_GSI + pin);
  sockets_ = std::make_unique<Sockets>(supply_, devices::PciSurroundings{memory_bus_, ports_, apic_bus_, pci_lines});
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

  io.pit = std::make_unique<devices::Pit8254>(isa_irq(layout::TIMER_IRQ), supply_.timers);
  TRY_VOID(plug_port(layout::PIT_PORT, 4, *io.pit, "8254"));
  TRY_VOID(plug_port(layout::PORT_61, 1, io.pit->port61(), "port 61h"));

  io.rtc = std::make_unique<devices::RtcCmos>(isa_irq(layout::RTC_IRQ), supply_.timers);
  TRY_VOID(plug_port(layout::RTC_PORT, 2, *io.rtc, "RTC"));

  io.keyboard = std::make_unique<devices::Ps2Controller8042>(isa_irq(layout::KEYBOARD_IRQ),
                                                             [&power = supply_.power] { power.reset(); });
  TRY_VOID(plug_port(layout::KBC_DATA_PORT, 1, io.keyboard->data_port(), "8042 data"));
  TRY_VOID(plug_port(layout::KBC_COMMAND_PORT, 1, io.keyboard->command_port(), "8042 command"));

  io.coprocessor_error = std::make_unique<devices::CoprocessorError>(isa_irq(layout::COPROCESSOR_IRQ));
  TRY_VOID(plug_port(layout::COPROCESSOR_PORT, 2, *io.coprocessor_error, "coprocessor error"));

  io.power_management = std::make_unique<devices::AcpiPm>(isa_irq(layout::SCI_IRQ), supply_.timers, supply_.power);
  return plug_port(layout::ACPI_PM_PORT, 16, *io.power_management, "ACPI power management");
}

Result<void> Mainboard::plug_pci() {
  devices::PciBus& pci = sockets_->pci;
  pci.set_reset_register(sockets_->reset_port);
  pci.plug(layout::HOST_BRIDGE_SLOT, sockets_->host_bridge);
  // Its random numbers would be others each time.
  if (!config_.engine_options.deterministic) pci.plug(layout::VIRTIO_RNG_SLOT, sockets_->rng_function);
  TRY_VOID(disks_.fill(config_, pci, {supply_.memory, supply_.events, supply_.lock, supply_.pause_machine}));
  TRY_VOID(network_.fill(config_, pci, supply_.memory, supply_.lock));
  return plug_port(layout::PCI_CONFIG_PORT, 8, pci, "PCI configuration");
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

void Mainboard::press_power_button() {
  if (legacy_)
    legacy_->power_management->press_power_button();
  else
    sockets_->sleep->press_power_button();
}

void Mainboard::reset() {
  for (machine::Device* device : devices_) device->reset();
  local_apics_[0]->set_virtual_wire();
  sockets_->pci.assign_resources({layout::PCI_WINDOW32_BASE, layout::PCI_WINDOW32_SIZE,
                                  layout::pci_window64_base(config_.memory_bytes), layout::PCI_WINDOW64_SIZE,
                                  layout::PCI_IO_WINDOW_BASE, layout::PCI_IO_WINDOW_SIZE});
}

void Mainboard::save(machine::SnapshotWriter& out) const {
  for (const machine::Device* device : devices_) device->save(out);
}

void Mainboard::restore(machine::SnapshotReader& in) {
  for (machine::Device* device : devices_) device->restore(in);
}

Result<void> Mainboard::write_acpi_tables() {
  const GuestPhys base{layout::ACPI_TABLES_BASE};
  const std::vector<std::byte> tables = devices::build_acpi_tables(describe_platform(config_), base);
  if (tables.size() > boot::RESET_STUB - base)
    return Error(fmt::format("{} bytes of ACPI tables are more than there is room for", tables.size()));
  if (!supply_.memory.write(base, tables)) return Error("no RAM for the ACPI tables");
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
