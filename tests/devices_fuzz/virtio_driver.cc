// Virtqueues of the block, network and entropy device, of balloon and console: set up as they should be, then filled
// with anything.
#include <algorithm>

#include "drivers.h"

namespace veneer::devices_fuzz {
namespace {

// BAR 0 of our functions, and the common configuration (Virtio 1.2 4.1.4.3)
constexpr std::uint64_t ISR = 0x1000, DEVICE = 0x2000, NOTIFY = 0x3000;
constexpr std::uint64_t FEATURE_SELECT = 8, FEATURE = 12, CONFIG_VECTOR = 16, NUM_QUEUES = 18, STATUS = 20,
                        QUEUE_SELECT = 22, QUEUE_SIZE = 24, QUEUE_VECTOR = 26, QUEUE_ENABLE = 28, QUEUE_DESC = 32,
                        QUEUE_DRIVER = 40, QUEUE_DEVICE = 48;
constexpr std::uint64_t NEEDS_RESET = 0x40;
constexpr std::uint16_t NEXT = 1, WRITE = 2, INDIRECT = 4;
constexpr std::uint32_t BLK = 0x1042'1af4, NET = 0x1041'1af4, BALLOON = 0x1045'1af4;

struct Descriptor {
  std::uint64_t address;
  std::uint32_t length;
  std::uint16_t flags, next;
};

struct Queue {
  std::uint64_t descriptors = 0, available = 0, used = 0;
  std::uint16_t size = 0, next = 0;
};

class VirtioDriver final : public Driver {
 public:
  const char* name() const override { return "virtio"; }
  void forget() override { queues_.clear(); }

  void step(Bench& bench, Choices& choices) override {
    std::vector<const Region*> functions;
    for (const Region& region : bench.regions())
      if ((region.id & 0xffff) == 0x1af4 && region.bar == 0) functions.push_back(&region);
    if (functions.empty()) return bench.assign_bars();
    const Region& function = *functions[choices.below(functions.size())];
    std::vector<Queue>& queues = queues_[function.slot];
    const bool broken = (bench.load(function.base + STATUS, 1) & NEEDS_RESET) != 0;
    if (queues.empty() || broken || choices.one_in(64)) return bring_up(bench, choices, function, queues);
    switch (choices.wrong(2) ? choices.below(4) : 4) {
      case 0:  // any register
        return bench.store(function.base + choices.below(60), choices.memory_size(), choices.value());
      case 1:
        (void)bench.load(function.base + choices.pick({ISR, DEVICE + choices.below(64), choices.below(60)}),
                         choices.memory_size());
        return;
      case 2:
        return corrupt(bench, choices, choices.of(queues.data(), queues.size()));
      case 3:  // again what there is
        return bench.store(function.base + NOTIFY + choices.below(2 * queues.size()) * 4, 2, choices.below(4));
      default:
        break;
    }
    const std::size_t index = choices.below(queues.size());
    offer(bench, choices, function, queues[index]);
    if (!choices.one_in(4)) bench.store(function.base + NOTIFY + index * 4, 2, index);
  }

 private:
  static void bring_up(Bench& bench, Choices& choices, const Region& function, std::vector<Queue>& queues) {
    const std::uint64_t bar = function.base;
    bench.store(bar + STATUS, 1, 0);
    bench.store(bar + STATUS, 1, 3);
    for (unsigned half = 0; half < 2; ++half) {
      bench.store(bar, 4, half);
      const std::uint64_t offered = bench.load(bar + 4, 4);
      bench.store(bar + FEATURE_SELECT, 4, half);
      bench.store(bar + FEATURE, 4, choices.one_in(3) && half == 0 ? offered & choices.bits(32) : offered);
    }
    bench.store(bar + STATUS, 1, 0xb);
    if (choices.one_in(2)) bench.store(bar + CONFIG_VECTOR, 2, choices.below(8));
    const std::uint64_t count = std::min<std::uint64_t>(bench.load(bar + NUM_QUEUES, 2), 16);
    queues.assign(count, {});
    for (std::uint64_t i = 0; i < count; ++i) {
      Queue& queue = queues[i];
      bench.store(bar + QUEUE_SELECT, 2, i);
      queue.size = static_cast<std::uint16_t>(bench.load(bar + QUEUE_SIZE, 2));
      if (choices.one_in(2))
        queue.size = static_cast<std::uint16_t>(1u << (choices.wrong(8) ? 0 : 2 + choices.below(7)));
      bench.store(bar + QUEUE_SIZE, 2, queue.size);
      if (queue.size == 0) queue.size = 1;
      queue.descriptors = bench.place(choices);
      queue.available = bench.place(choices);
      queue.used = bench.place(choices);
      if (choices.wrong(16)) queue.used = bench.address(choices);
      if (choices.wrong(32)) queue.available = bench.address(choices);
      if (choices.wrong(32)) queue.descriptors = bench.address(choices);
      bench.poke(queue.available, std::uint32_t{0});
      bench.store(bar + QUEUE_DESC, 8, queue.descriptors);
      bench.store(bar + QUEUE_DRIVER, 8, queue.available);
      bench.store(bar + QUEUE_DEVICE, 8, queue.used);
      if (choices.one_in(2)) bench.store(bar + QUEUE_VECTOR, 2, choices.below(count + 2));
      if (!choices.one_in(8)) bench.store(bar + QUEUE_ENABLE, 2, 1);
    }
    bench.store(bar + STATUS, 1, 0xf);
  }

  static void corrupt(Bench& bench, Choices& choices, const Queue& queue) {
    const std::uint64_t at =
        choices.pick({queue.descriptors + choices.below(queue.size) * 16, queue.available, queue.used});
    bench.poke(at + choices.below(16), choices.value());
  }

  static std::uint32_t length(Choices& choices) {
    switch (choices.below(6)) {
      case 0:
        return static_cast<std::uint32_t>(choices.below(64));
      case 1:
        if (choices.wrong(1)) return static_cast<std::uint32_t>(choices.value());
        [[fallthrough]];
      case 2:
        return static_cast<std::uint32_t>(512 * choices.below(512));
      default:
        return static_cast<std::uint32_t>(choices.pick({512, 1024, 1536, 4096}));
    }
  }

  /// A chain in the table, with what the device wants at its head, and its place in the available ring.
  static void offer(Bench& bench, Choices& choices, const Region& function, Queue& queue) {
    std::uint64_t count = (choices.wrong(8) ? 1 : 2) + choices.below(choices.one_in(8) ? 64 : 3);
    const auto head = static_cast<std::uint16_t>(choices.below(queue.size));
    std::uint64_t table = queue.descriptors, entries = queue.size, first = head;
    if (choices.one_in(6)) {  // an indirect table
      table = bench.place(choices);
      entries = 256;
      first = 0;
      const auto bytes = static_cast<std::uint32_t>(choices.wrong(4) ? choices.value() : 16 * count);
      bench.poke(queue.descriptors + 16u * head, Descriptor{table, bytes, INDIRECT, 0});
    }
    if (!choices.wrong(8)) count = std::min(count, entries);
    bool writable = false;
    for (std::uint64_t i = 0, at = first; i < count; ++i) {
      // Readable buffers, then writable ones; the last is a status byte.
      writable = writable || (i > 0 && choices.one_in(3)) || i + 1 == count;
      const std::uint64_t next = choices.wrong(16) ? choices.below(entries + 2) : (at + 1) % entries;
      Descriptor descriptor{bench.address(choices), length(choices), 0, static_cast<std::uint16_t>(next)};
      if (i + 1 < count || choices.wrong(32)) descriptor.flags |= NEXT;
      if (writable != choices.wrong(24)) descriptor.flags |= WRITE;
      if (choices.wrong(32)) descriptor.flags = static_cast<std::uint16_t>(choices.bits(16));
      if (i == 0) descriptor.length = fill_head(bench, choices, function.id, descriptor);
      if (i + 1 == count && !choices.wrong(2)) descriptor.length = 1;
      bench.poke(table + 16 * at, descriptor);
      at = next % entries;
    }
    bench.poke(queue.available + 4u + 2u * (queue.next % queue.size),
               choices.wrong(32) ? static_cast<std::uint16_t>(choices.bits(16)) : head);
    queue.next = static_cast<std::uint16_t>(choices.wrong(24) ? choices.bits(16) : queue.next + 1u);
    bench.poke(queue.available + 2, queue.next);
    if (choices.one_in(8)) bench.poke(queue.available, static_cast<std::uint16_t>(choices.below(4)));
  }

  static std::uint32_t fill_head(Bench& bench, Choices& choices, std::uint32_t id, const Descriptor& descriptor) {
    std::uint32_t bytes = length(choices);
    if (id == BLK) {
      struct {
        std::uint32_t type, reserved;
        std::uint64_t sector;
      } const header{
          static_cast<std::uint32_t>(choices.wrong(8) ? choices.value() : choices.pick({0, 1, 4, 8, 11, 13, 14})), 0,
          choices.wrong(4) ? choices.value() : choices.below(131072)};
      bench.poke(descriptor.address, header);
      // Ranges of discards, should they follow at once.
      bench.poke(descriptor.address + 16, choices.below(131072));
      bench.poke(descriptor.address + 24, static_cast<std::uint32_t>(choices.below(4096)));
      bytes = choices.wrong(8) ? bytes : 16;
    } else if (id == NET) {
      struct {
        std::uint8_t flags, kind;
        std::uint16_t header_bytes, segment_bytes, start, offset, buffers;
      } const header{static_cast<std::uint8_t>(choices.below(4)),
                     static_cast<std::uint8_t>(choices.one_in(8) ? choices.bits(8) : choices.pick({0, 1, 3, 4, 0x81})),
                     static_cast<std::uint16_t>(choices.value()),
                     static_cast<std::uint16_t>(choices.one_in(3) ? choices.value() : 1448),
                     static_cast<std::uint16_t>(choices.one_in(3) ? choices.value() : 34),
                     static_cast<std::uint16_t>(choices.one_in(3) ? choices.value() : 16),
                     0};
      if (choices.one_in(3)) {  // a control command
        bench.poke(descriptor.address, static_cast<std::uint16_t>(choices.below(6) | choices.below(6) << 8));
        bench.poke(descriptor.address + 2, choices.value());
        return choices.one_in(2) ? 2 : bytes;
      }
      bench.poke(descriptor.address, header);
      const std::vector<std::byte> frame = make_frame(choices, 4096);
      (void)bench.memory.write(GuestPhys{descriptor.address + 12}, frame);
      bytes = choices.one_in(4) ? 12 : static_cast<std::uint32_t>(12 + frame.size());
    } else if (id == BALLOON) {
      fill_balloon(bench, choices, descriptor.address);
      if (choices.one_in(2)) bytes = static_cast<std::uint32_t>(choices.one_in(2) ? 40 : 0x1000 << choices.below(12));
    }
    return bytes;
  }

  /// Page numbers, or statistics: nobody knows which queue this is for.
  static void fill_balloon(Bench& bench, Choices& choices, std::uint64_t at) {
    if (choices.one_in(3)) {
      for (std::uint16_t tag = 0; tag < 12; ++tag) {
        bench.poke(at + 10u * tag, static_cast<std::uint16_t>(choices.wrong(8) ? choices.bits(16) : tag));
        bench.poke(at + 10u * tag + 2, choices.value());
      }
      return;
    }
    const std::uint64_t pages = 1 + choices.below(64);
    for (std::uint64_t i = 0; i < pages; ++i) {
      const std::uint64_t number = (choices.one_in(2) ? bench.page(choices) : bench.address(choices)) >> page_shift;
      bench.poke(at + 4 * i, static_cast<std::uint32_t>(choices.wrong(16) ? choices.value() : number));
    }
  }

  std::map<unsigned, std::vector<Queue>> queues_;  // by slot
};

}  // namespace

std::unique_ptr<Driver> make_virtio_driver() { return std::make_unique<VirtioDriver>(); }

}  // namespace veneer::devices_fuzz
