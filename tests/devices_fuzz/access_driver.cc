// Single accesses: every port, every register range, configuration space, and RAM filled with numbers.
#include "drivers.h"
#include "vm/layout.h"

namespace veneer::devices_fuzz {
namespace {

namespace layout = vm::layout;

struct Ports {
  std::uint16_t base, count;
};
constexpr std::array<Ports, 24> known_ports = {{{layout::PIC_MASTER_PORT, 2},    {layout::PIT_PORT, 4},
                                                {layout::KBC_DATA_PORT, 1},      {layout::PORT_61, 1},
                                                {layout::KBC_COMMAND_PORT, 1},   {layout::RTC_PORT, 2},
                                                {layout::POST_PORT, 1},          {layout::PORT_92, 1},
                                                {layout::APM_PORT, 2},           {layout::PIC_SLAVE_PORT, 2},
                                                {layout::COPROCESSOR_PORT, 2},   {layout::DEBUG_EXIT_PORT, 1},
                                                {layout::DEBUG_CONSOLE_PORT, 1}, {layout::FW_CFG_PORT, 12},
                                                {layout::IDE1_PORT, 8},          {layout::IDE2_PORT, 8},
                                                {layout::IDE1_CONTROL_PORT, 1},  {layout::IDE2_CONTROL_PORT, 1},
                                                {layout::VBE_PORT, 3},           {layout::VGA_PORT, 48},
                                                {layout::COM1_PORT, 8},          {layout::ELCR_PORT, 2},
                                                {layout::ACPI_PM_PORT, 16},      {layout::PCI_CONFIG_PORT, 8}}};

class AccessDriver final : public Driver {
 public:
  const char* name() const override { return "accesses"; }

  void step(Bench& bench, Choices& choices) override {
    switch (choices.below(8)) {
      case 0:
      case 1: {
        const Ports& ports = choices.of(known_ports.data(), known_ports.size());
        return access_port(bench, choices, ports.base + choices.below(ports.count));
      }
      case 2:
        return access_port(bench, choices, choices.bits(16));
      case 3:
        return access_memory(bench, choices, bench.address(choices));
      case 4:
      case 5:
        return access_region(bench, choices);
      case 6:
        return access_config(bench, choices);
      default:
        return fill(bench, choices);
    }
  }

 private:
  static void access_port(Bench& bench, Choices& choices, std::uint64_t port) {
    const unsigned size = choices.port_size();
    for (std::uint64_t n = 1 + choices.below(4); n != 0; --n) {
      if (choices.one_in(2))
        bench.out(port, size, choices.value());
      else
        (void)bench.in(port, size);
    }
  }

  static void access_memory(Bench& bench, Choices& choices, std::uint64_t address) {
    const unsigned size = choices.memory_size();
    if (choices.one_in(2))
      bench.store(address, size, choices.value());
    else
      (void)bench.load(address, size);
  }

  static void access_region(Bench& bench, Choices& choices) {
    if (bench.regions().empty()) return bench.assign_bars();
    const Region& region = choices.of(bench.regions().data(), bench.regions().size());
    // The beginning is where most registers are.
    const std::uint64_t offset =
        choices.below(choices.one_in(3) ? region.size_bytes : std::min<std::uint64_t>(region.size_bytes, 64));
    if (region.ports) return access_port(bench, choices, region.base + offset);
    access_memory(bench, choices, region.base + (choices.one_in(4) ? offset : offset & ~std::uint64_t{3}));
  }

  static void access_config(Bench& bench, Choices& choices) {
    if (choices.one_in(16)) return bench.assign_bars();
    const auto slot = static_cast<unsigned>(choices.below(13));
    const auto function = static_cast<unsigned>(slot == layout::PIIX_SLOT ? choices.below(4) : choices.one_in(8));
    const auto offset = static_cast<unsigned>(choices.one_in(2) ? choices.bits(8) : choices.below(0x40));
    const unsigned size = choices.port_size();
    if (choices.one_in(3))
      (void)bench.read_config(slot, function, offset, size);
    else
      bench.write_config(slot, function, offset, size, choices.one_in(3) ? bench.address(choices) : choices.value());
  }

  static void fill(Bench& bench, Choices& choices) {
    const std::uint64_t at = Bench::tables + choices.below(Bench::tables_bytes);
    for (std::uint64_t n = 1 + choices.below(8), i = 0; i < n; ++i)
      bench.poke(at + 8 * i, choices.one_in(2) ? choices.value() : bench.address(choices));
  }
};

}  // namespace

std::unique_ptr<Driver> make_access_driver() { return std::make_unique<AccessDriver>(); }

}  // namespace veneer::devices_fuzz
