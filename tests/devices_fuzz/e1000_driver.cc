// The e1000: rings, descriptors of every kind, registers through memory and through the port window.
#include <algorithm>

#include "devices/e1000/e1000_defs.h"
#include "drivers.h"

namespace veneer::devices_fuzz {
namespace {

using namespace devices::e1000;

constexpr std::uint32_t id = 0x100e'8086;

class E1000Driver final : public Driver {
 public:
  const char* name() const override { return "e1000"; }
  void forget() override { count_ = 0; }

  void step(Bench& bench, Choices& choices) override {
    const Region* const registers = bench.region(id, 0);
    const Region* const window = bench.region(id, 1);
    if (!registers || !window) return bench.assign_bars();
    const std::uint64_t bar = registers->base;
    if (count_ == 0 || choices.one_in(128)) return bring_up(bench, choices, bar);
    switch (choices.wrong(2) ? choices.below(4) : 4 + choices.below(4)) {
      case 0:
        return bench.store(bar + some_register(choices), choices.one_in(4) ? choices.memory_size() : 4,
                           choices.value());
      case 1:
        return (void)bench.load(bar + some_register(choices), choices.memory_size());
      case 2:
        bench.out(window->base, 4, choices.one_in(4) ? choices.value() : some_register(choices));
        if (choices.one_in(2)) return (void)bench.in(window->base + 4, 4);
        return bench.out(window->base + 4, 4, choices.value());
      case 3:
        return eeprom_and_phy(bench, choices, bar);
      case 4:  // room to receive
        return receive(bench, choices, bar);
      default:
        return transmit(bench, choices, bar);
    }
  }

 private:
  static std::uint64_t some_register(Choices& choices) {
    if (choices.one_in(4)) return choices.below(0x2'0000) & ~std::uint64_t{3};
    return choices.pick({CTRL,  STATUS, EECD,  EERD,   MDIC,  ICR,  ICS,  IMS,        IMC,
                         RCTL,  TCTL,   RDBAL, RDBAH,  RDLEN, RDH,  RDT,  TDBAL,      TDBAH,
                         TDLEN, TDH,    TDT,   RXCSUM, MTA,   RAL0, VFTA, STATISTICS, REGISTERS_END});
  }

  void bring_up(Bench& bench, Choices& choices, std::uint64_t bar) {
    count_ = static_cast<std::uint32_t>(8u << choices.below(5));
    transmit_ring_ = choices.wrong(16) ? bench.address(choices) : bench.place(choices);
    receive_ring_ = choices.wrong(16) ? bench.address(choices) : bench.place(choices);
    tail_ = 0;
    bench.store(bar + TDBAL, 4, transmit_ring_);
    bench.store(bar + TDBAH, 4, transmit_ring_ >> 32);
    bench.store(bar + TDLEN, 4, count_ * descriptor_bytes);
    bench.store(bar + TDH, 4, 0);
    bench.store(bar + TDT, 4, 0);
    bench.store(bar + RDBAL, 4, receive_ring_);
    bench.store(bar + RDBAH, 4, receive_ring_ >> 32);
    bench.store(bar + RDLEN, 4, count_ * descriptor_bytes);
    bench.store(bar + RDH, 4, 0);
    bench.store(bar + RDT, 4, count_ - 1);
    bench.store(bar + TCTL, 4, TCTL_EN);
    bench.store(
        bar + RCTL, 4,
        RCTL_EN | RCTL_UPE | RCTL_MPE | RCTL_BAM | (choices.bits(32) & (RCTL_LPE | RCTL_BSEX | RCTL_SECRC | 0x3'0300)));
    bench.store(bar + RXCSUM, 4, choices.bits(10));
    bench.store(bar + IMS, 4, choices.bits(16));
    for (std::uint32_t i = 0; i < count_; ++i) bench.poke(receive_ring_ + i * descriptor_bytes, bench.address(choices));
  }

  static void eeprom_and_phy(Bench& bench, Choices& choices, std::uint64_t bar) {
    if (choices.one_in(2)) {
      bench.store(bar + MDIC, 4,
                  choices.bits(16) | choices.below(32) << 16 | (choices.one_in(8) ? choices.bits(8) : 1) << 21 |
                      choices.below(4) << 26);
      return (void)bench.load(bar + MDIC, 4);
    }
    for (unsigned i = 0; i < 12; ++i) bench.store(bar + EECD, 4, choices.bits(8));
    bench.store(bar + EERD, 4, choices.bits(16) | 1);
  }

  void receive(Bench& bench, Choices& choices, std::uint64_t bar) {
    bench.poke(receive_ring_ + choices.below(count_) * descriptor_bytes, bench.address(choices));
    bench.store(bar + RDT, 4, choices.wrong(8) ? choices.value() : choices.below(count_));
  }

  /// One descriptor, or several that make a packet.
  void transmit(Bench& bench, Choices& choices, std::uint64_t bar) {
    for (std::uint64_t n = 1 + choices.below(4); n != 0; --n) {
      TransmitDescriptor descriptor{};
      const std::uint64_t kind = choices.below(4);
      const std::vector<std::byte> frame = make_frame(choices, 4096);
      descriptor.address = bench.address(choices);
      (void)bench.memory.write(GuestPhys{descriptor.address}, frame);
      std::uint32_t length = choices.wrong(4) ? static_cast<std::uint32_t>(choices.value()) & 0xf'ffff
                                              : static_cast<std::uint32_t>(frame.size());
      std::uint32_t command = n == 1 ? TX_EOP : 0;
      if (choices.one_in(2)) command |= TX_RS;
      if (choices.wrong(8)) command = static_cast<std::uint32_t>(choices.bits(8));
      if (kind == 0) {  // a context
        descriptor.address = choices.one_in(2)
                                 ? choices.bits(64)
                                 : 14 | 24u << 8 | 33u << 16 | std::uint64_t{34} << 32 | std::uint64_t{50} << 40;
        descriptor.lower = static_cast<std::uint32_t>(choices.bits(20)) |
                           (TX_DEXT | static_cast<std::uint32_t>(choices.bits(3)) | (command & TX_RS)) << 24;
        descriptor.upper = static_cast<std::uint32_t>(choices.one_in(2) ? choices.bits(32) : 54u << 8 | 1448u << 16);
      } else if (kind == 1) {  // legacy
        descriptor.lower = (length & 0xffff) | static_cast<std::uint32_t>(choices.bits(8)) << 16 |
                           (command | static_cast<std::uint32_t>(choices.below(2)) << 2) << 24;
        descriptor.upper = static_cast<std::uint32_t>(choices.bits(32));
      } else {  // data
        descriptor.lower =
            length | 1u << 20 | (command | TX_DEXT | static_cast<std::uint32_t>(choices.below(2)) << 2) << 24;
        descriptor.upper = static_cast<std::uint32_t>(choices.below(4) << 8 | choices.bits(16) << 16);
      }
      bench.poke(transmit_ring_ + tail_ * descriptor_bytes, descriptor);
      tail_ = (tail_ + 1) % count_;
    }
    bench.store(bar + TDT, 4, choices.wrong(16) ? choices.value() : tail_);
  }

  std::uint32_t count_ = 0, tail_ = 0;
  std::uint64_t transmit_ring_ = 0, receive_ring_ = 0;
};

}  // namespace

std::unique_ptr<Driver> make_e1000_driver() { return std::make_unique<E1000Driver>(); }

}  // namespace veneer::devices_fuzz
