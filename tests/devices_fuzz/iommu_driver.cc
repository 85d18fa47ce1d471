// The IOMMU: tables that map some of what devices use and everything else, rings of commands right and wrong, its
// registers in any order. Other drivers' devices work behind it meanwhile.
#include "devices/iommu/amd_iommu_defs.h"
#include "drivers.h"
#include "vm/layout.h"

namespace veneer::devices_fuzz {
namespace {

using namespace devices::amd_iommu;

constexpr std::uint64_t RINGS = std::uint64_t{8} << 56;  // 256 entries
constexpr std::uint64_t ON =
    CONTROL_IOMMU_EN | CONTROL_EVENT_LOG_EN | CONTROL_EVENT_INT_EN | CONTROL_COM_WAIT_INT_EN | CONTROL_CMD_BUF_EN;
constexpr std::uint64_t permissions = PTE_IR | PTE_IW;
constexpr std::uint64_t entries = 512;

class IommuDriver final : public Driver {
 public:
  const char* name() const override { return "iommu"; }

  void step(Bench& bench, Choices& choices) override {
    const auto at = [](std::uint64_t offset) { return vm::layout::IOMMU_BASE + offset; };
    switch (choices.below(9)) {
      case 0: {  // any register, any width
        const std::uint64_t offset = choices.one_in(4) ? choices.below(registers_bytes)
                                                       : (choices.one_in(2) ? 0u : 0x2000u) + choices.below(8) * 8;
        const unsigned size = choices.memory_size();
        if (choices.one_in(2)) return (void)bench.load(at(offset), size);
        return bench.store(at(offset), size, choices.value());
      }
      case 1:
        return set_up(bench, choices);
      case 2:
        return bench.store(at(CONTROL), 8, choices.wrong(4) ? choices.value() : ON);
      case 3:
        return bench.store(at(CONTROL), 8, 0);
      case 4:
        return device(bench, choices);
      case 5:
        return page(bench, choices);
      case 6:
        return command(bench, choices);
      case 7: {
        bench.store(at(STATUS), 8, choices.value());
        return bench.store(at(EVENT_HEAD), 8, choices.one_in(4) ? choices.value() : bench.load(at(EVENT_TAIL), 8));
      }
      default:
        return interrupt(bench, choices);
    }
  }

 private:
  std::uint64_t somewhere(Bench& bench, Choices& choices) {
    return choices.wrong(16) ? choices.value() : bench.place(choices);
  }
  void set_up(Bench& bench, Choices& choices) {
    devices_ = bench.place(choices);
    commands_ = bench.place(choices);
    pages_ = bench.place(choices);
    bench.store(vm::layout::IOMMU_BASE + DEVICE_TABLE_BASE, 8, (choices.wrong(8) ? choices.value() : devices_) | 1);
    bench.store(vm::layout::IOMMU_BASE + COMMAND_BUFFER_BASE, 8,
                choices.wrong(8) ? choices.value() : commands_ | RINGS);
    bench.store(vm::layout::IOMMU_BASE + EVENT_LOG_BASE, 8, somewhere(bench, choices) | RINGS);
    bench.store(vm::layout::IOMMU_BASE + CONTROL, 8, ON);
  }
  /// Lets a device pass, gives it tables, or whatever.
  void device(Bench& bench, Choices& choices) {
    const std::uint64_t requester = choices.one_in(3) ? choices.bits(8) : choices.below(32) * 8;
    const std::uint64_t place = devices_ + requester * device_entry_bytes;
    std::array<std::uint64_t, 4> entry = {DTE0_V | DTE0_TV | DTE0_IR | DTE0_IW, choices.bits(16), 0, 0};
    if (choices.one_in(2)) entry[0] |= (1 + choices.below(levels_max)) << 9 | pages_;
    if (choices.one_in(3)) entry[2] = DTE2_IV | 9u << 1 | pages_ | std::uint64_t{INT_REMAP} << 60;
    if (choices.one_in(3)) entry[0] = 0;
    if (choices.wrong(3)) entry[choices.below(4)] = choices.value();
    bench.poke(place, entry);
  }
  /// One entry of a table: a page of memory as it is, a table, the table itself.
  void page(Bench& bench, Choices& choices) {
    const std::uint64_t index = choices.one_in(3) ? choices.below(entries) : (Bench::data >> 12) + choices.below(256);
    const std::uint64_t next = choices.wrong(2) ? choices.bits(3) : 0;
    const std::uint64_t target = choices.one_in(3)   ? pages_
                                 : choices.wrong(16) ? choices.value() & TableAddress::mask
                                                     : (index % entries) << 12;
    const std::uint64_t entry = PTE_PR | permissions | next << 9 | target;
    bench.poke(pages_ + (index % entries) * 8, choices.wrong(4) ? choices.value() : entry);
  }
  void interrupt(Bench& bench, Choices& choices) {
    const auto entry = static_cast<std::uint32_t>(IRTE_REMAP_EN | choices.bits(1) << 8 | choices.bits(8) << 16);
    bench.poke(pages_ + choices.bits(9) * interrupt_entry_bytes,
               choices.wrong(3) ? static_cast<std::uint32_t>(choices.value()) : entry);
  }
  void command(Bench& bench, Choices& choices) {
    const std::uint64_t tail = bench.load(vm::layout::IOMMU_BASE + COMMAND_TAIL, 8);
    const unsigned count = choices.wrong(4) ? 300 : 1 + static_cast<unsigned>(choices.below(4));
    for (unsigned i = 0; i < count; ++i) {
      const std::uint64_t code = choices.wrong(8) ? choices.bits(4) : choices.pick({1u, 2u, 3u, 5u, 8u});
      const std::uint64_t store = code == 1 ? bench.address(choices) & WaitAddress::mask : choices.bits(32);
      const std::array<std::uint64_t, 2> words = {code << 60 | store | choices.bits(2), choices.value()};
      bench.poke(commands_ + (tail + i * ring_entry_bytes) % 4096, words);
    }
    bench.store(vm::layout::IOMMU_BASE + COMMAND_TAIL, 8,
                choices.wrong(8) ? choices.value() : (tail + count * ring_entry_bytes) % 4096);
  }

  std::uint64_t devices_ = Bench::tables, commands_ = Bench::tables + 0x2000, pages_ = Bench::tables + 0x3000;
};

}  // namespace

std::unique_ptr<Driver> make_iommu_driver() { return std::make_unique<IommuDriver>(); }

}  // namespace veneer::devices_fuzz
