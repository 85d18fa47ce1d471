// The HPET: its registers in their order and in any other, while time passes.
#include "drivers.h"
#include "vm/layout.h"

namespace veneer::devices_fuzz {
namespace {

constexpr std::uint64_t CONFIG = 0x10, STATUS = 0x20, COUNTER = 0xf0, TIMER_0 = 0x100, TIMER_STRIDE = 0x20;
constexpr std::uint64_t TIMER_CONFIG = 0, COMPARATOR = 8, FSB_ROUTE = 0x10;
constexpr std::uint64_t ENABLE = 1, LEGACY = 2;
// Of a timer's configuration
constexpr std::uint64_t LEVEL = 2, INTERRUPTS = 4, PERIODIC = 8, SET_VALUE = 0x40, BITS_32 = 0x100, FSB = 0x4000;
constexpr std::uint64_t ticks_per_us = 100, us = 1000, timers = 3;

class HpetDriver final : public Driver {
 public:
  const char* name() const override { return "hpet"; }

  void step(Bench& bench, Choices& choices) override {
    const auto at = [](std::uint64_t offset) { return vm::layout::HPET_BASE + offset; };
    const std::uint64_t timer = TIMER_0 + choices.below(timers) * TIMER_STRIDE;
    switch (choices.below(8)) {
      case 0: {  // any register, any width, across their borders too
        const std::uint64_t offset = choices.one_in(4) ? choices.below(vm::layout::HPET_SIZE) : choices.below(0x30) * 8;
        const unsigned size = choices.memory_size();
        if (choices.one_in(2)) return (void)bench.load(at(offset), size);
        return bench.store(at(offset), size, choices.value());
      }
      case 1:
        return bench.store(at(CONFIG), 8,
                           choices.wrong(4) ? choices.value() : choices.pick({ENABLE, ENABLE | LEGACY, LEGACY}));
      case 2:  // near its end, where it wraps
        return bench.store(
            at(COUNTER), 8,
            choices.one_in(2) ? choices.value() : ~std::uint64_t{0} - choices.below(1000 * ticks_per_us));
      case 3: {
        const std::uint64_t route = choices.one_in(4) ? choices.bits(5) : vm::layout::HPET_FIRST_GSI + choices.below(4);
        std::uint64_t config = INTERRUPTS | route << 9;
        for (const std::uint64_t bit : {LEVEL, PERIODIC, SET_VALUE, BITS_32, FSB})
          if (choices.one_in(3)) config |= bit;
        return bench.store(at(timer + TIMER_CONFIG), 8, choices.wrong(6) ? choices.value() : config);
      }
      case 4: {
        const std::uint64_t soon = bench.load(at(COUNTER), 8) + choices.below(1000) * ticks_per_us;
        const std::uint64_t period = choices.pick({0u, 1u, 7u, 100u, 100'000u});
        return bench.store(at(timer + COMPARATOR), choices.one_in(4) ? 4 : 8,
                           choices.wrong(3)    ? choices.value()
                           : choices.one_in(3) ? period
                                               : soon);
      }
      case 5:
        return bench.store(at(timer + FSB_ROUTE), 8,
                           choices.one_in(2) ? choices.value() : (vm::layout::LAPIC_BASE << 32 | choices.bits(8)));
      case 6:
        (void)bench.load(at(STATUS), 8);
        return bench.store(at(STATUS), 8, choices.value());
      default: {
        const std::lock_guard hold(bench.lock);
        return bench.timers.advance(choices.pick({us, 10 * us, 1000 * us}) * (1 + choices.below(16)));
      }
    }
  }
};

}  // namespace

std::unique_ptr<Driver> make_hpet_driver() { return std::make_unique<HpetDriver>(); }

}  // namespace veneer::devices_fuzz
