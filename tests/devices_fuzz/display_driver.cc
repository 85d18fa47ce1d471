// VGA and VBE: every register of the board's display, and the same on one whose pictures are drawn.
#include <algorithm>

#include "drivers.h"
#include "vm/layout.h"

namespace veneer::devices_fuzz {
namespace {

constexpr std::uint32_t id = 0x1111'1234;

class DisplayDriver final : public Driver {
 public:
  const char* name() const override { return "display"; }

  void step(Bench& bench, Choices& choices) override {
    switch (choices.below(8)) {
      case 0:
      case 1: {  // an indexed register
        const std::uint16_t port =
            choices.pick({std::uint16_t{0x3c4}, std::uint16_t{0x3ce}, std::uint16_t{0x3d4}, std::uint16_t{0x3b4}});
        const std::uint64_t index = choices.below(0x1a);
        write(bench, port, index);
        return write(bench, static_cast<std::uint16_t>(port + 1), choices.bits(8));
      }
      case 2: {
        const auto port = static_cast<std::uint16_t>(vm::layout::VGA_PORT + choices.below(48));
        if (choices.one_in(3)) {
          (void)bench.in(port, choices.port_size());
          return (void)bench.screen.read_port(port);
        }
        return write(bench, port, choices.one_in(4) ? choices.bits(8) : choices.pick({0, 1, 0x20, 0x63, 0xff}));
      }
      case 3: {
        const auto index = static_cast<std::uint16_t>(choices.below(12));
        const auto value = static_cast<std::uint16_t>(index == 4   ? choices.bits(8)
                                                      : index == 3 ? choices.pick({4, 8, 15, 16, 24, 32, 33})
                                                                   : choices.value());
        bench.out(vm::layout::VBE_PORT, 2, index);
        bench.out(vm::layout::VBE_PORT + 1 + choices.below(2), 2, value);
        (void)bench.in(vm::layout::VBE_PORT + 1, 2);
        return bench.screen.write_vbe(index, value);
      }
      case 4: {
        const std::uint64_t offset = choices.one_in(2) ? choices.below(0x2'0000) : 0x1'8000 + choices.below(0x1000);
        const unsigned size = choices.memory_size();
        const std::uint64_t value = choices.value();
        bench.screen.write_window(static_cast<std::uint32_t>(offset), static_cast<std::uint8_t>(value));
        (void)bench.screen.read_window(static_cast<std::uint32_t>(offset));
        bench.store(vm::layout::VGA_WINDOW_BASE + offset, size, value);
        return (void)bench.load(vm::layout::VGA_WINDOW_BASE + offset, size);
      }
      case 5: {
        const Region* const region = bench.region(id, choices.one_in(2) ? 0 : 2);
        if (!region) return bench.assign_bars();
        const std::uint64_t offset =
            choices.one_in(4) ? region->size_bytes - 1 - choices.below(16) : choices.below(region->size_bytes);
        bench.store(region->base + offset, choices.memory_size(), choices.value());
        return (void)bench.load(region->base + offset, choices.memory_size());
      }
      case 6:
        return (void)bench.screen.text();
      default:
        if (choices.one_in(16)) (void)bench.screen.picture();  // up to four million pixels
        if (choices.one_in(64)) restore_damaged(bench.screen, choices);
        return;
    }
  }

 private:
  static void restore_damaged(devices::Vga& screen, Choices& choices) {
    machine::SnapshotWriter out;
    screen.save(out);
    std::vector<std::byte> state = out.data();
    for (unsigned n = 0; n < 8; ++n)
      state[choices.below(std::min<std::size_t>(state.size(), 1024))] = static_cast<std::byte>(choices.value());
    machine::SnapshotReader in(state);
    screen.restore(in);
    (void)screen.text();
  }

  static void write(Bench& bench, std::uint16_t port, std::uint64_t value) {
    bench.out(port, 1, value);
    bench.screen.write_port(port, static_cast<std::uint8_t>(value));
  }
};

}  // namespace

std::unique_ptr<Driver> make_display_driver() { return std::make_unique<DisplayDriver>(); }

}  // namespace veneer::devices_fuzz
