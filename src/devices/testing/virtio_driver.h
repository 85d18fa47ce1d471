// VirtioDriver: a virtio device's driver as a test has it, with a PCI bus and memory, rings at fixed places, and no manners.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <vector>

#include "devices/irq/apic_bus.h"
#include "devices/pci/pci_bus.h"
#include "devices/testing/fakes.h"
#include "devices/virtio/virtio_pci.h"
#include "machine/bus.h"
#include "machine/guest_memory.h"

namespace veneer::devices::testing {

constexpr std::uint64_t VERSION_1 = std::uint64_t{1} << 32;  ///< a feature bit (Virtio 1.2 6)

/// A buffer of a chain: guest memory, which the device may write or read.
struct Piece {
  std::uint64_t address;
  std::uint32_t bytes;
  bool writable;
};

/// A fixture: it comes before the device that the test has as a member, whose function it then plugs.
class VirtioDriver : public ::testing::Test {
 protected:
  // BAR 0, and where virtio_pci.h has its parts in it.
  static constexpr std::uint64_t registers = 0xc0000000, config = registers + 0x2000, notify = registers + 0x3000;
  static constexpr std::uint16_t NEXT = 1, WRITE = 2, ring_size = 16;

  void plug(VirtioPci& function) {
    bus.plug(3, function);
    bus.reset();
    bus.assign_resources({registers, 0x100000, 0, 0, 0, 0});
    function.write_config(pci::COMMAND, 2, pci::COMMAND_MEMORY | pci::COMMAND_MASTER);
  }

  // Queue n has its rings at 0x4000 * n.
  static std::uint64_t descriptors(unsigned queue) { return 0x1000 + 0x4000 * std::uint64_t{queue}; }
  static std::uint64_t driver_area(unsigned queue) { return descriptors(queue) + 0x1000; }
  static std::uint64_t device_area(unsigned queue) { return descriptors(queue) + 0x2000; }

  /// All up to DRIVER_OK (Virtio 1.2 3.1.1).
  void set_up_queues(std::uint64_t features, unsigned queues) {
    memory.write(registers + 20, 1, 3);
    for (unsigned half = 0; half < 2; ++half) {
      memory.write(registers + 8, 4, half);
      memory.write(registers + 12, 4, (features >> (32 * half)) & 0xffffffff);
    }
    memory.write(registers + 20, 1, 11);
    for (unsigned queue = 0; queue < queues; ++queue) {
      memory.write(registers + 22, 2, queue);
      memory.write(registers + 24, 2, ring_size);
      memory.write(registers + 32, 4, descriptors(queue));
      memory.write(registers + 40, 4, driver_area(queue));
      memory.write(registers + 48, 4, device_area(queue));
      memory.write(registers + 28, 2, 1);
    }
  }
  void driver_ok() { memory.write(registers + 20, 1, 15); }
  bool needs_reset() { return (memory.read(registers + 20, 1) & 64) != 0; }

  template <typename T>
  void poke(std::uint64_t address, T value) {
    ASSERT_TRUE(ram.write_value(GuestPhys{address}, value));
  }
  template <typename T>
  T peek(std::uint64_t address) {
    T value{};
    EXPECT_TRUE(ram.read_value(GuestPhys{address}, value));
    return value;
  }

  /// Puts a chain into a queue; its first descriptor is `first`.
  void offer(unsigned queue, std::uint16_t first, const std::vector<Piece>& pieces) {
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      const std::uint64_t at = descriptors(queue) + 16 * (first + i);
      poke(at, pieces[i].address);
      poke(at + 8, pieces[i].bytes);
      const bool last = i + 1 == pieces.size();
      poke(at + 12, static_cast<std::uint16_t>((last ? 0 : NEXT) | (pieces[i].writable ? WRITE : 0)));
      poke(at + 14, static_cast<std::uint16_t>(first + i + 1));
    }
    const auto index = peek<std::uint16_t>(driver_area(queue) + 2);
    poke(driver_area(queue) + 4 + 2 * (index % ring_size), first);
    poke(driver_area(queue) + 2, static_cast<std::uint16_t>(index + 1));
  }
  void ring(unsigned queue) { memory.write(notify + 4 * queue, 2, queue); }
  std::uint16_t used(unsigned queue) { return peek<std::uint16_t>(device_area(queue) + 2); }
  std::uint32_t used_length(unsigned queue, unsigned slot) {
    return peek<std::uint32_t>(device_area(queue) + 8 + 8 * slot);
  }

  machine::BoardLock lock;
  machine::Bus memory{"memory", lock}, ports{"port", lock};
  FakeIrqLine irq;  ///< whatever pin
  ApicBus apics{lock};
  PciBus bus{{memory, ports, apics, {&irq, &irq, &irq, &irq}}};
  machine::GuestMemory ram;
};

}  // namespace veneer::devices::testing
