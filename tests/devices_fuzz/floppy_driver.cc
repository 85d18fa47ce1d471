// The floppy controller with its DMA channel: commands with the right parameters, with too few, and with any.
#include "devices/floppy/floppy_defs.h"
#include "drivers.h"
#include "vm/layout.h"

namespace veneer::devices_fuzz {
namespace {

using namespace devices::floppy;

constexpr std::uint16_t DMA_ADDRESS = 0x04, DMA_COUNT = 0x05, DMA_MASK = 0x0a, DMA_MODE = 0x0b, DMA_FLIP_FLOP = 0x0c;
constexpr std::uint16_t DMA_PAGE = 0x81;
constexpr std::uint8_t channel = 2, sectors = 36, tracks = 80;

class FloppyDriver final : public Driver {
 public:
  const char* name() const override { return "floppy"; }

  void step(Bench& bench, Choices& choices) override {
    if (!awake_ || choices.one_in(64)) wake(bench, choices);
    awake_ = true;
    switch (choices.below(8)) {
      case 0:
        return (void)bench.in(vm::layout::FLOPPY_PORT + choices.below(8), choices.port_size());
      case 1:
        if (!choices.wrong(2)) return;
        awake_ = false;
        return bench.out(vm::layout::FLOPPY_PORT + choices.below(8), choices.port_size(), choices.value());
      case 2:
        return prepare_dma(bench, choices);
      default:
        return command(bench, choices);
    }
  }

  void forget() override { awake_ = false; }

 private:
  static void wake(Bench& bench, Choices& choices) {
    bench.out(vm::layout::FLOPPY_PORT + DIGITAL_OUTPUT, 1, 0);
    bench.out(vm::layout::FLOPPY_PORT + DIGITAL_OUTPUT, 1, NOT_RESET | DMA_GATE | 0x30u | choices.below(2));
    bench.out(vm::layout::FLOPPY_CHANGE_PORT, 1, choices.pick({0, 0, 3, 2}));
    for (unsigned n = 0; n < 4; ++n) {
      send(bench, SENSE_INTERRUPT);
      results(bench);
    }
    // Heads that find their way themselves, mostly.
    for (const std::uint64_t byte : {+CONFIGURE, 0, IMPLIED_SEEK & choices.pick({0xff, 0xff, 0}), 0}) send(bench, byte);
    prepare_dma(bench, choices);
  }

  /// Channel 2 to or from a buffer, now and then of any mode and place.
  static void prepare_dma(Bench& bench, Choices& choices) {
    const std::uint64_t to = choices.wrong(4) ? choices.bits(24) : bench.page(choices) & 0xff'ffff;
    const std::uint64_t count = choices.one_in(4) ? choices.bits(16) : 512 * (1 + choices.below(sectors)) - 1;
    bench.out(DMA_MASK, 1, 4u | channel);
    bench.out(DMA_FLIP_FLOP, 1, 0);
    bench.out(DMA_ADDRESS, 1, to & 0xff);
    bench.out(DMA_ADDRESS, 1, to >> 8 & 0xff);
    bench.out(DMA_PAGE, 1, to >> 16);
    bench.out(DMA_COUNT, 1, count & 0xff);
    bench.out(DMA_COUNT, 1, count >> 8);
    bench.out(DMA_MODE, 1, choices.wrong(4) ? choices.bits(8) : choices.pick({0x44u, 0x48u, 0x58u, 0x54u}) | channel);
    bench.out(DMA_MASK, 1, choices.wrong(8) ? choices.bits(8) : channel);
  }

  void command(Bench& bench, Choices& choices) {
    const std::uint64_t drive = choices.below(2), head = choices.below(2);
    const std::uint64_t select = choices.wrong(8) ? choices.bits(8) : head << 2 | drive;
    const auto transfer = [&](std::uint64_t opcode) {
      for (const std::uint64_t byte :
           {opcode | choices.pick({0x40u, 0xc0u, 0x60u, 0u}), select, track_, head, 1 + choices.below(sectors),
            std::uint64_t{size_code_512}, std::uint64_t{sectors}, std::uint64_t{0x1b}, std::uint64_t{0xff}})
        send(bench, choices.wrong(12) ? choices.value() : byte);
    };
    switch (choices.below(9)) {
      case 0:
        track_ = choices.wrong(8) ? choices.bits(8) : choices.below(tracks);
        for (const std::uint64_t byte : {std::uint64_t{SEEK}, select, track_}) send(bench, byte);
        break;
      case 1:
        track_ = 0;
        send(bench, RECALIBRATE);
        send(bench, select & 3);
        break;
      case 2:
        send(bench, SENSE_INTERRUPT);
        break;
      case 3:
      case 4:
        transfer(choices.pick({READ_DATA, READ_DELETED, READ_TRACK, VERIFY}));
        break;
      case 5:
        transfer(choices.pick({WRITE_DATA, WRITE_DELETED}));
        break;
      case 6:
        for (const std::uint64_t byte :
             {std::uint64_t{FORMAT_TRACK} | 0x40, select, std::uint64_t{size_code_512},
              choices.wrong(4) ? choices.value() : sectors, std::uint64_t{0x1b}, choices.bits(8)})
          send(bench, byte);
        break;
      case 7:
        send(bench, choices.pick({READ_ID | 0x40, +SENSE_DRIVE, +VERSION, +DUMP_REGISTERS, LOCK | 0x80, +LOCK,
                                  +CONFIGURE, +SPECIFY, +PERPENDICULAR}));
        for (std::uint64_t n = choices.below(5); n > 0; --n) send(bench, choices.bits(8));
        break;
      default:
        for (std::uint64_t n = choices.below(10); n > 0; --n) send(bench, choices.value());
        break;
    }
    if (choices.wrong(4)) return;  // answers that nobody takes
    bench.settle();
    results(bench);
  }

  static void send(Bench& bench, std::uint64_t byte) { bench.out(vm::layout::FLOPPY_PORT + FIFO, 1, byte & 0xff); }

  static void results(Bench& bench) {
    for (unsigned n = 0; n < 16; ++n) {
      const std::uint32_t status = bench.in(vm::layout::FLOPPY_PORT + MAIN_STATUS, 1);
      if ((status & (RQM | DIO)) != (RQM | DIO)) return;
      (void)bench.in(vm::layout::FLOPPY_PORT + FIFO, 1);
    }
  }

  bool awake_ = false;
  std::uint64_t track_ = 0;
};

}  // namespace

std::unique_ptr<Driver> make_floppy_driver() { return std::make_unique<FloppyDriver>(); }

}  // namespace veneer::devices_fuzz
