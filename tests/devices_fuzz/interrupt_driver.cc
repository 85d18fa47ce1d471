// The processor's side of interrupts, the local APICs' registers both ways, and time.
#include "drivers.h"
#include "vm/layout.h"

namespace veneer::devices_fuzz {
namespace {

constexpr std::uint32_t IA32_APIC_BASE = 0x1b, X2APIC_FIRST = 0x800, IA32_TSC_DEADLINE = 0x6e0;
constexpr std::uint64_t EOI = 0xb0, IOREGSEL = 0, IOWIN = 0x10;
constexpr std::uint64_t us = 1000, ms = 1000 * us;

class InterruptDriver final : public Driver {
 public:
  const char* name() const override { return "interrupts"; }

  void step(Bench& bench, Choices& choices) override {
    const auto vcpu = static_cast<unsigned>(choices.below(2));
    cpu::InterruptPort& pins = bench.board->interrupts(vcpu);
    switch (choices.below(9)) {
      case 0:
        if (pins.interrupt_pending()) (void)pins.acknowledge();
        if (pins.nmi_pending()) pins.take_nmi();
        bench.store(vm::layout::LAPIC_BASE + EOI, 4, 0);
        return;
      case 1: {  // any register of the page
        const std::uint64_t at =
            vm::layout::LAPIC_BASE + choices.below(0x40) * 16 + (choices.one_in(8) ? choices.below(16) : 0);
        const unsigned size = choices.one_in(4) ? choices.memory_size() : 4;
        if (choices.one_in(4)) return (void)bench.load(at, size);
        return bench.store(at, size, choices.value());
      }
      case 2: {
        const auto index = static_cast<std::uint32_t>(X2APIC_FIRST + choices.below(0x40));
        if (choices.one_in(4)) return (void)pins.read_msr(index);
        return (void)pins.write_msr(index, choices.value());
      }
      case 3:
        // Through all modes, at all places.
        (void)pins.write_msr(IA32_APIC_BASE, choices.one_in(2) ? vm::layout::LAPIC_BASE | choices.below(16) << 8
                                                               : bench.address(choices));
        return;
      case 4:
        if (choices.one_in(2)) return pins.set_cr8(choices.below(16));
        return (void)pins.write_msr(IA32_TSC_DEADLINE, bench.timers.now_ns() + choices.value() % (10 * ms));
      case 5: {  // the I/O APIC's tables
        bench.store(vm::layout::IOAPIC_BASE + IOREGSEL, 4, choices.below(0x48));
        if (choices.one_in(4)) return (void)bench.load(vm::layout::IOAPIC_BASE + IOWIN, 4);
        return bench.store(vm::layout::IOAPIC_BASE + IOWIN, 4, choices.value());
      }
      case 6:
        bench.board->unhalt(static_cast<std::uint32_t>(choices.below(4)));
        (void)bench.board->send_ipi(vcpu, static_cast<std::uint32_t>(choices.below(4)),
                                    static_cast<std::uint32_t>(choices.value()));
        bench.board->coprocessor_error();
        return signals(bench, vcpu, choices);
      default:
        return pass_time(bench, choices);
    }
  }

 private:
  /// What a vCPU's thread does on INIT and SIPI.
  static void signals(Bench& bench, unsigned vcpu, Choices& choices) {
    devices::LocalApic& apic = bench.board->local_apic(vcpu);
    (void)apic.take_unhalt();
    const std::lock_guard hold(bench.lock);
    if (apic.init_pending()) apic.take_init();
    if (apic.startup_pending()) (void)apic.take_startup();
    if (choices.one_in(8)) bench.board->press_power_button();
    const std::uint64_t text = choices.bits(64);
    bench.board->serial().receive(std::span(reinterpret_cast<const std::uint8_t*>(&text), choices.below(9)));
  }

  static void pass_time(Bench& bench, Choices& choices) {
    const std::lock_guard hold(bench.lock);
    bench.timers.advance(choices.pick({us, 100 * us, ms, 10 * ms}) * (1 + choices.below(4)));
  }
};

}  // namespace

std::unique_ptr<Driver> make_interrupt_driver() { return std::make_unique<InterruptDriver>(); }

}  // namespace veneer::devices_fuzz
