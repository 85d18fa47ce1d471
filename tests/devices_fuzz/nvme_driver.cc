// NVMe: admin and I/O queues, commands with PRP lists that lead anywhere.
#include <algorithm>

#include "devices/nvme/nvme_defs.h"
#include "drivers.h"

namespace veneer::devices_fuzz {
namespace {

using namespace devices::nvme;

class NvmeDriver final : public Driver {
 public:
  const char* name() const override { return "nvme"; }
  void forget() override { queues_ = {}; }

  void step(Bench& bench, Choices& choices) override {
    const Region* const function = find(bench);
    if (!function) return bench.assign_bars();
    const std::uint64_t bar = function->base;
    if (queues_[0].size == 0 || choices.one_in(128)) return enable(bench, choices, bar);
    switch (choices.wrong(4) ? 0 : 1 + choices.below(7)) {
      case 0:
        return bench.store(bar + (choices.one_in(2) ? choices.below(0x40) : DOORBELLS + 4 * choices.below(12)),
                           choices.memory_size(), choices.value());
      case 1:
        (void)bench.load(bar + choices.below(0x1040), choices.memory_size());
        return;
      case 2:  // the guest has seen all its answers
        return consume(bench, choices, bar);
      case 3:
        return create_queue(bench, choices, bar);
      case 4:
        return submit(bench, choices, bar, 0, admin(bench, choices));
      default:
        return submit(bench, choices, bar, static_cast<unsigned>(1 + choices.below(queues_.size() - 1)),
                      io(bench, choices));
    }
  }

 private:
  struct Queue {
    std::uint64_t commands = 0, answers = 0;
    std::uint32_t size = 0, tail = 0, head = 0;
    std::uint16_t phase = 1;
  };

  static const Region* find(const Bench& bench) {
    for (const Region& region : bench.regions())
      if (region.slot == 9 && region.bar == 0) return &region;
    return nullptr;
  }

  void enable(Bench& bench, Choices& choices, std::uint64_t bar) {
    queues_ = {};
    Queue& queue = queues_[0];
    queue.size = static_cast<std::uint32_t>(choices.pick({2, 8, 32, 64}));
    queue.commands = choices.wrong(24) ? bench.address(choices) : bench.place(choices);
    queue.answers = choices.wrong(24) ? bench.address(choices) : bench.place(choices);
    clear(bench, queue);
    bench.store(bar + CC, 4, 0);
    bench.store(bar + AQA, 4, (queue.size - 1) << 16 | (queue.size - 1));
    bench.store(bar + ASQ, 8, queue.commands);
    bench.store(bar + ACQ, 8, queue.answers);
    bench.store(bar + CC, 4, choices.wrong(16) ? choices.value() | 1 : 0x0046'0001);
  }

  void consume(Bench& bench, Choices& choices, std::uint64_t bar) {
    for (unsigned id = 0; id < queues_.size(); ++id) consume(bench, choices, bar, id);
  }

  /// Takes the answers that are there.
  void consume(Bench& bench, Choices& choices, std::uint64_t bar, unsigned id) {
    Queue& queue = queues_[id];
    if (queue.size == 0) return;
    for (unsigned n = 0; n < 64; ++n) {
      const auto answer = bench.peek<Completion>(queue.answers + queue.head * sizeof(Completion));
      if ((answer.status & 1) != queue.phase) break;
      queue.head = (queue.head + 1) % queue.size;
      if (queue.head == 0) queue.phase ^= 1;
    }
    if (choices.wrong(8)) queue.head = static_cast<std::uint32_t>(choices.value()) % queue.size;
    bench.store(bar + DOORBELLS + 4 * (2 * id + 1), 4, queue.head);
  }

  void create_queue(Bench& bench, Choices& choices, std::uint64_t bar) {
    const auto id = static_cast<unsigned>(1 + choices.below(2));
    if (queues_[id].size != 0 && !choices.wrong(4)) return;
    Queue queue;
    queue.size = static_cast<std::uint32_t>(2 + choices.below(62));
    queue.commands = bench.place(choices);
    queue.answers = bench.place(choices);
    clear(bench, queue);
    Command command{};
    command.opcode = CREATE_CQ;
    command.prp1 = choices.wrong(16) ? bench.address(choices) : queue.answers;
    command.cdw10 = id | (queue.size - 1) << 16;
    command.cdw11 =
        1 | static_cast<std::uint32_t>(choices.below(3) << 1) | static_cast<std::uint32_t>(choices.below(4) << 16);
    submit(bench, choices, bar, 0, command);
    consume(bench, choices, bar, 0);
    command.opcode = CREATE_SQ;
    command.prp1 = choices.wrong(16) ? bench.address(choices) : queue.commands;
    command.cdw11 = 1 | (choices.wrong(8) ? static_cast<std::uint32_t>(choices.below(6)) : id) << 16;
    submit(bench, choices, bar, 0, command);
    queues_[id] = queue;
  }

  static void clear(Bench& bench, const Queue& queue) {
    for (std::uint64_t i = 0; i < queue.size; ++i) bench.poke(queue.answers + i * sizeof(Completion), Completion{});
  }

  Command admin(Bench& bench, Choices& choices) {
    Command command = any(bench, choices);
    command.opcode = choices.one_in(12)
                         ? static_cast<std::uint8_t>(choices.bits(8))
                         : choices.pick({std::uint8_t{DELETE_SQ}, std::uint8_t{GET_LOG_PAGE}, std::uint8_t{DELETE_CQ},
                                         std::uint8_t{IDENTIFY}, std::uint8_t{ABORT}, std::uint8_t{SET_FEATURES},
                                         std::uint8_t{GET_FEATURES}, std::uint8_t{ASYNC_EVENT_REQUEST}});
    if (!choices.one_in(4)) command.cdw10 = static_cast<std::uint32_t>(choices.below(16));
    return command;
  }

  Command io(Bench& bench, Choices& choices) {
    Command command = any(bench, choices);
    command.opcode = choices.one_in(12) ? static_cast<std::uint8_t>(choices.bits(8))
                                        : choices.pick({std::uint8_t{FLUSH}, std::uint8_t{WRITE}, std::uint8_t{READ},
                                                        std::uint8_t{WRITE_ZEROES}, std::uint8_t{DATASET_MANAGEMENT}});
    if (!choices.wrong(8)) {
      command.cdw10 = static_cast<std::uint32_t>(choices.below(131072));
      command.cdw11 = 0;
      command.cdw12 = static_cast<std::uint32_t>(choices.below(choices.one_in(4) ? 1100 : 16));
    }
    if (command.opcode == DATASET_MANAGEMENT) {
      command.cdw10 = static_cast<std::uint32_t>(choices.below(256));
      command.cdw11 = 4;
    }
    return command;
  }

  /// PRPs that mostly lead into RAM, some through a list.
  static Command any(Bench& bench, Choices& choices) {
    Command command{};
    command.id = static_cast<std::uint16_t>(choices.bits(16));
    command.nsid = choices.wrong(8) ? static_cast<std::uint32_t>(choices.value()) : 1;
    command.prp1 = !choices.wrong(2) ? bench.page(choices) : bench.address(choices) & ~std::uint64_t{3};
    command.prp2 = !choices.wrong(2) ? bench.place(choices) : bench.address(choices) & ~std::uint64_t{3};
    for (std::uint64_t i = 0, n = choices.one_in(4) ? 512 : choices.below(8); i < n; ++i)
      bench.poke(command.prp2 + 8 * i, choices.wrong(16) ? bench.address(choices) : bench.page(choices));
    // A list that goes on in itself.
    if (choices.wrong(4))
      bench.poke((command.prp2 & ~std::uint64_t{0xfff}) + 0xff8, command.prp2 & ~std::uint64_t{0xfff});
    for (std::uint32_t* word : {&command.cdw10, &command.cdw11, &command.cdw12, &command.cdw13})
      *word = static_cast<std::uint32_t>(choices.value());
    if (choices.wrong(32)) command.flags = static_cast<std::uint8_t>(choices.bits(8));
    return command;
  }

  void submit(Bench& bench, Choices& choices, std::uint64_t bar, unsigned id, const Command& command) {
    Queue& queue = queues_[id];
    if (queue.size == 0) return;
    bench.poke(queue.commands + queue.tail * sizeof command, command);
    queue.tail = (queue.tail + 1) % queue.size;
    if (!choices.one_in(4)) bench.store(bar + DOORBELLS + 8 * id, 4, queue.tail);
  }

  std::array<Queue, 4> queues_;
};

}  // namespace

std::unique_ptr<Driver> make_nvme_driver() { return std::make_unique<NvmeDriver>(); }

}  // namespace veneer::devices_fuzz
