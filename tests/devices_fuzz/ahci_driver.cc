// AHCI: ports, command lists with FISes and regions that lead anywhere, queued commands, packets, resets.
#include <algorithm>

#include "devices/ahci/ahci_defs.h"
#include "drivers.h"

namespace veneer::devices_fuzz {
namespace {

using namespace devices::ahci;

constexpr std::uint32_t id = 0x2922'8086;
constexpr std::array<std::uint8_t, 30> commands = {0x06, 0x08, 0x20, 0x24, 0x25, 0x27, 0x29, 0x2f, 0x30, 0x34,
                                                   0x35, 0x39, 0x3d, 0x40, 0x42, 0x47, 0x60, 0x60, 0x61, 0x61,
                                                   0x90, 0xa0, 0xa0, 0xa1, 0xc6, 0xc8, 0xca, 0xea, 0xec, 0xef};
constexpr std::array<std::uint8_t, 17> packets = {0x00, 0x03, 0x12, 0x1a, 0x1b, 0x1e, 0x25, 0x28, 0x2b,
                                                  0x43, 0x46, 0x4a, 0x51, 0x5a, 0xa8, 0xbb, 0xbd};

class AhciDriver final : public Driver {
 public:
  const char* name() const override { return "ahci"; }
  void forget() override { list_ = {}; }

  void step(Bench& bench, Choices& choices) override {
    const Region* const function = bench.region(id, 5);
    if (!function) return bench.assign_bars();
    const auto port = static_cast<unsigned>(choices.below(choices.wrong(8) ? 3 : 2));
    const std::uint64_t base = function->base + PORTS_BASE + port * PORT_BYTES;
    if (list_[port] == 0 || choices.one_in(64)) return start(bench, choices, base, port);
    switch (choices.wrong(4) ? choices.below(3) : 3 + choices.below(5)) {
      case 0:
        return bench.store(function->base + choices.below(PORTS_BASE + 3 * PORT_BYTES), choices.memory_size(),
                           choices.value());
      case 1:
        return (void)bench.load(function->base + choices.below(0x1000), choices.memory_size());
      case 2:  // the link goes down and up, or the adapter is reset
        if (choices.one_in(4)) {
          list_ = {};
          return bench.store(function->base + GHC, 4, GHC_HR);
        }
        bench.store(base + PxSCTL, 4, choices.pick({1, 4, 1, 0}));
        return bench.store(base + PxSCTL, 4, choices.one_in(8) ? 1 : 0);
      case 3:  // after an error
        if ((bench.load(base + PxIS, 4) & IS_TFES) != 0) return start(bench, choices, base, port);
        return bench.store(base + PxIS, 4, ~0u);
      default:
        return submit(bench, choices, base, port);
    }
  }

 private:
  void start(Bench& bench, Choices& choices, std::uint64_t base, unsigned port) {
    list_[port] = bench.place(choices);
    bench.store(base + PxCMD, 4, choices.one_in(16) ? CMD_CLO : 0);
    bench.store(base + PxCLB, 8, choices.wrong(24) ? bench.address(choices) : list_[port]);
    bench.store(base + PxFB, 8, choices.wrong(24) ? bench.address(choices) : bench.place(choices));
    bench.store(base + PxSERR, 4, ~0u);
    bench.store(base + PxIE, 4, choices.one_in(4) ? choices.value() : ~0u);
    bench.store(base + PxCMD, 4, choices.wrong(16) ? choices.value() : std::uint64_t{CMD_FRE | CMD_ST});
  }

  /// Some slots at once.
  void submit(Bench& bench, Choices& choices, std::uint64_t base, unsigned port) {
    std::uint32_t slots = 0, tags = 0;
    for (std::uint64_t n = 1 + choices.below(4); n != 0; --n) {
      const auto slot = static_cast<unsigned>(choices.below(32));
      const bool queued = put(bench, choices, port, slot);
      slots |= 1u << slot;
      if (queued) tags |= 1u << slot;
    }
    if (!choices.wrong(8)) bench.store(base + PxSACT, 4, tags);
    bench.store(base + PxCI, 4, choices.wrong(16) ? choices.value() : slots);
    if (choices.one_in(4)) bench.settle();
  }

  /// True for a queued command.
  bool put(Bench& bench, Choices& choices, unsigned port, unsigned slot) {
    const std::uint64_t table = bench.place(choices);
    const auto regions = static_cast<std::uint16_t>(choices.wrong(16) ? choices.bits(16) : choices.below(24));
    bench.poke(list_[port] + slot * sizeof(CommandHeader),
               CommandHeader{static_cast<std::uint16_t>(choices.one_in(16) ? choices.bits(16) : 5),
                             regions,
                             0,
                             choices.wrong(24) ? bench.address(choices) : table,
                             {}});
    std::array<std::uint8_t, 20> fis{};
    for (std::uint8_t& byte : fis) byte = static_cast<std::uint8_t>(choices.wrong(3) ? choices.bits(8) : 0);
    fis[0] = choices.wrong(32) ? static_cast<std::uint8_t>(choices.bits(8)) : FIS_H2D;
    fis[1] = choices.wrong(16) ? 0 : FIS_COMMAND;
    fis[2] =
        choices.wrong(8) ? static_cast<std::uint8_t>(choices.bits(8)) : choices.of(commands.data(), commands.size());
    const bool queued = fis[2] == 0x60 || fis[2] == 0x61;
    if (!choices.wrong(4)) {
      fis[4] = static_cast<std::uint8_t>(choices.bits(8));
      fis[7] = 0x40;
      fis[queued ? 3 : 12] = static_cast<std::uint8_t>(choices.below(8));
      if (queued) fis[12] = static_cast<std::uint8_t>(slot << 3);
    }
    if (fis[2] == 0x06) fis[3] = 1;
    bench.poke(table, fis);
    std::array<std::uint8_t, 12> packet{};
    for (std::uint8_t& byte : packet) byte = static_cast<std::uint8_t>(choices.one_in(2) ? 0 : choices.bits(8));
    packet[0] = choices.one_in(12) ? packet[0] : choices.of(packets.data(), packets.size());
    bench.poke(table + TABLE_PACKET, packet);
    for (std::uint64_t i = 0, n = std::min<std::uint64_t>(regions, 200); i < n; ++i) {
      const std::uint64_t address = choices.wrong(12) ? bench.address(choices) : bench.page(choices);
      const auto bytes =
          static_cast<std::uint32_t>(choices.one_in(4) ? choices.bits(22) : choices.below(8) * 512 + 511);
      bench.poke(table + TABLE_PRDT + i * sizeof(PhysicalRegion), PhysicalRegion{address, 0, bytes});
    }
    return queued;
  }

  std::array<std::uint64_t, 3> list_{};  // of each port; 0: it is not started
};

}  // namespace

std::unique_ptr<Driver> make_ahci_driver() { return std::make_unique<AhciDriver>(); }

}  // namespace veneer::devices_fuzz
