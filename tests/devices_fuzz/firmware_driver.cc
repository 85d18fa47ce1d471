// fw_cfg with its DMA, and shadow RAM.
#include "drivers.h"
#include "vm/layout.h"

namespace veneer::devices_fuzz {
namespace {

constexpr std::uint64_t DATA = 1, DMA_HIGH = 4, DMA_LOW = 8;
constexpr unsigned PAM = 0x59;

class FirmwareDriver final : public Driver {
 public:
  const char* name() const override { return "firmware"; }

  void step(Bench& bench, Choices& choices) override {
    constexpr std::uint64_t port = vm::layout::FW_CFG_PORT;
    switch (choices.below(5)) {
      case 0:
        return bench.out(port, 2, item(choices));
      case 1:
        for (std::uint64_t n = choices.below(64); n != 0; --n) (void)bench.in(port + DATA, choices.port_size());
        return;
      case 2:  // shadow RAM: what reads and writes reach
        bench.write_config(0, 0, PAM + static_cast<unsigned>(choices.below(7)), 1, choices.bits(8));
        bench.store(vm::layout::SHADOW_BASE + choices.below(0x4'0000), choices.memory_size(), choices.value());
        return;
      default:
        return dma(bench, choices, port);
    }
  }

 private:
  static std::uint64_t item(Choices& choices) {
    return choices.one_in(4) ? choices.bits(16) : choices.one_in(2) ? choices.below(0x20) : 0x20 + choices.below(0x10);
  }

  static void dma(Bench& bench, Choices& choices, std::uint64_t port) {
    const std::uint64_t at = bench.address(choices);
    const std::uint64_t control = (choices.one_in(8) ? choices.bits(16) : choices.below(32)) | item(choices) << 16;
    bench.poke(at, __builtin_bswap32(static_cast<std::uint32_t>(control)));
    bench.poke(at + 4, __builtin_bswap32(
                           static_cast<std::uint32_t>(choices.one_in(2) ? choices.below(0x2000) : choices.value())));
    // Onto itself, too.
    bench.poke(at + 8, __builtin_bswap64(choices.one_in(8) ? at : bench.address(choices)));
    bench.out(port + DMA_HIGH, 4, __builtin_bswap32(static_cast<std::uint32_t>(at >> 32)));
    bench.out(port + DMA_LOW, 4, __builtin_bswap32(static_cast<std::uint32_t>(at)));
  }
};

}  // namespace

std::unique_ptr<Driver> make_firmware_driver() { return std::make_unique<FirmwareDriver>(); }

}  // namespace veneer::devices_fuzz
