// IDE: commands of disks and packets of CD-ROMs, by PIO and by tables of the bus master.
#include <algorithm>

#include "drivers.h"
#include "vm/layout.h"

namespace veneer::devices_fuzz {
namespace {

constexpr std::uint32_t id = 0x7010'8086;
constexpr std::uint8_t PACKET = 0xa0, SRST = 4, BSY = 0x80, DRQ = 8;
constexpr std::array<std::uint8_t, 30> commands = {0x08, 0x20, 0x24, 0x25, 0x27,   0x29, 0x30, 0x34, 0x35, 0x39,
                                                   0x40, 0x42, 0x90, 0x91, PACKET, 0xa1, 0xc4, 0xc5, 0xc6, 0xc8,
                                                   0xca, 0xe0, 0xe5, 0xe7, 0xea,   0xec, 0xef, 0xf8, 0x10, 0x70};
constexpr std::array<std::uint8_t, 17> packets = {0x00, 0x03, 0x12, 0x1a, 0x1b, 0x1e, 0x25, 0x28, 0x2b,
                                                  0x43, 0x46, 0x4a, 0x51, 0x5a, 0xa8, 0xbb, 0xbd};

class IdeDriver final : public Driver {
 public:
  const char* name() const override { return "ide"; }

  void step(Bench& bench, Choices& choices) override {
    const auto channel = static_cast<unsigned>(choices.below(2));
    const std::uint64_t base = channel ? vm::layout::IDE2_PORT : vm::layout::IDE1_PORT;
    const std::uint64_t control = channel ? vm::layout::IDE2_CONTROL_PORT : vm::layout::IDE1_CONTROL_PORT;
    const Region* const bus_master = bench.region(id, 4);
    const std::uint64_t master = bus_master ? bus_master->base + 8 * channel : 0;
    // A drive in the middle of a transfer takes no commands.
    if (!choices.wrong(4) && (bench.in(control, 1) & (BSY | DRQ)) != 0 && choices.one_in(4)) {
      bench.out(control, 1, SRST);
      bench.out(control, 1, 0);
    }
    switch (choices.wrong(2) ? choices.below(6) : 6 + choices.below(4)) {
      case 0:
        if (choices.one_in(4)) return bench.out(control, 1, choices.bits(8));
        return bench.out(base + choices.below(8), choices.port_size(), choices.value());
      case 1:
        return (void)bench.in(choices.one_in(8) ? control : base + choices.below(8), choices.port_size());
      case 2:
      case 3:
        return move_data(bench, choices, base);
      case 4:
        if (master != 0) set_table(bench, choices, master);
        return;
      case 5:
        if (master != 0) bench.out(master, 1, choices.pick({0, 1, 8, 9}));
        return;
      case 6:
      case 7:
        send_packet(bench, choices, base, master);
        break;
      default:
        if (master != 0) set_table(bench, choices, master);
        send_command(bench, choices, base);
        break;
    }
    bench.settle();
    if (choices.one_in(2)) return move_data(bench, choices, base);
    if (master != 0) bench.out(master, 1, choices.pick({1, 9}));
  }

 private:
  static void send_command(Bench& bench, Choices& choices, std::uint64_t base) {
    for (unsigned twice = 0; twice < 2; ++twice)
      for (unsigned reg = 1; reg < 6; ++reg)
        bench.out(base + reg, 1, choices.wrong(3) ? choices.bits(8) : choices.below(reg == 3 ? 64 : 2));
    bench.out(base + 6, 1, choices.wrong(2) ? choices.bits(8) : choices.pick({0xe0, 0xa0, 0xf0}));
    bench.out(base + 7, 1, choices.wrong(8) ? choices.bits(8) : choices.of(commands.data(), commands.size()));
    if (choices.one_in(4)) bench.settle();
  }

  static void move_data(Bench& bench, Choices& choices, std::uint64_t base) {
    const bool write = choices.one_in(2);
    const unsigned size = choices.port_size();
    for (std::uint64_t n = choices.pick({1, 6, 128, 256, 600}); n != 0; --n) {
      if (write)
        bench.out(base, size, n);
      else
        (void)bench.in(base, size);
    }
  }

  static void send_packet(Bench& bench, Choices& choices, std::uint64_t base, std::uint64_t master) {
    bench.out(base + 6, 1, choices.one_in(8) ? choices.bits(8) : choices.below(2) << 4);
    bench.out(base + 1, 1, choices.below(2));  // DMA
    bench.out(base + 4, 1, choices.one_in(2) ? 0 : choices.bits(8));
    bench.out(base + 5, 1, choices.one_in(2) ? 8 : choices.bits(8));
    bench.out(base + 7, 1, PACKET);
    std::array<std::uint8_t, 12> packet{};
    packet[0] =
        choices.one_in(12) ? static_cast<std::uint8_t>(choices.bits(8)) : choices.of(packets.data(), packets.size());
    for (unsigned i = 1; i < packet.size(); ++i)
      packet[i] = static_cast<std::uint8_t>(choices.one_in(2) ? 0 : choices.bits(8));
    const bool huge = choices.one_in(16);
    if (huge) packet = {0xa8, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0};  // READ(12) of all the disc
    for (unsigned i = 0; i < 6; ++i) bench.out(base, 2, packet[2 * i] | packet[2 * i + 1] << 8);
    if (huge && master != 0) {
      set_endless_table(bench, choices, master);
      bench.out(master, 1, 9);
    }
  }

  static void set_table(Bench& bench, Choices& choices, std::uint64_t master) {
    const std::uint64_t table = choices.wrong(8) ? bench.address(choices) : bench.place(choices);
    for (std::uint64_t i = 0, n = 1 + choices.below(16); i < n; ++i) {
      const bool last = i + 1 == n && !choices.wrong(8);
      const std::uint64_t bytes = choices.one_in(2) ? 0 : choices.bits(16);
      bench.poke(table + 8 * i,
                 (bench.address(choices) & 0xffff'fffe) | bytes << 32 | (last ? std::uint64_t{1} << 63 : 0));
    }
    bench.out(master + 4, 4, table);
    if (choices.one_in(2)) bench.out(master + 2, 1, 6);
  }

  /// As many entries as RAM has room for: the transfer is as long as the command wants it.
  static void set_endless_table(Bench& bench, Choices& choices, std::uint64_t master) {
    constexpr std::uint64_t table = 0x18'0000;
    const std::uint64_t entry = Bench::data + choices.below(8) * 0x1'0000;
    for (std::uint64_t i = 0; i < 32768; ++i) bench.poke(table + 8 * i, entry & 0xffff'fffe);
    bench.out(master + 4, 4, table);
  }
};

}  // namespace

std::unique_ptr<Driver> make_ide_driver() { return std::make_unique<IdeDriver>(); }

}  // namespace veneer::devices_fuzz
