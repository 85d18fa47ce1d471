// A board that writes down every access and answers from a script.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <ostream>
#include <utility>
#include <vector>

#include "cpu/engine.h"

namespace veneer::engine_tests {

/// One access of the guest to a port or to MMIO.
struct BusAccess {
  bool write;
  std::uint64_t address;
  unsigned size;
  std::uint64_t value;  ///< written, or given as the answer
  bool operator==(const BusAccess&) const = default;
};

/// For gtest's messages.
inline void PrintTo(const BusAccess& access, std::ostream* out) {
  *out << (access.write ? "write " : "read ") << std::hex << access.address << '.' << access.size << " = "
       << access.value << std::dec;
}

/// A local APIC as simple as can be: a queue of vectors, highest priority first come.
class FakeInterrupts final : public cpu::InterruptPort {
 public:
  /// From any thread; the engine is told by kick().
  void raise(std::uint8_t vector) {
    const std::lock_guard hold(lock_);
    queue_.push_back(vector);
  }
  void raise_nmi() { nmi_ = true; }
  /// acknowledge() gives nothing although interrupt_pending() said yes: a spurious interrupt.
  void raise_spurious() { spurious_ = true; }

  bool interrupt_pending() const override {
    const std::lock_guard hold(lock_);
    return spurious_ || !queue_.empty();
  }
  std::optional<std::uint8_t> acknowledge() override {
    const std::lock_guard hold(lock_);
    spurious_ = false;
    if (queue_.empty()) return std::nullopt;
    const std::uint8_t vector = queue_.front();
    queue_.pop_front();
    return vector;
  }
  bool nmi_pending() const override { return nmi_; }
  void take_nmi() override { nmi_ = false; }
  bool take_unhalt() override { return unhalt_.exchange(false); }
  void unhalt() { unhalt_ = true; }
  std::optional<std::uint64_t> read_msr(std::uint32_t index) override {
    const auto at = msrs.find(index);
    if (at == msrs.end()) return std::nullopt;
    return at->second;
  }
  bool write_msr(std::uint32_t index, std::uint64_t value) override {
    const auto at = msrs.find(index);
    if (at == msrs.end()) return false;
    at->second = value;
    return true;
  }
  std::uint64_t cr8() const override { return task_priority; }
  void set_cr8(std::uint64_t value) override { task_priority = value; }

  std::map<std::uint32_t, std::uint64_t> msrs;  ///< those that exist
  std::uint64_t task_priority = 0;

 private:
  mutable std::mutex lock_;
  std::deque<std::uint8_t> queue_;
  std::atomic<bool> nmi_{false}, spurious_{false}, unhalt_{false};
};

class FakeBoard final : public cpu::Board {
 public:
  std::uint32_t read_port(std::uint16_t port, unsigned size_bytes) override {
    return static_cast<std::uint32_t>(read(ports, port_values, port, size_bytes));
  }
  void write_port(std::uint16_t port, unsigned size_bytes, std::uint32_t value) override {
    ports.push_back({true, port, size_bytes, value});
    if (on_port_write) on_port_write(port, value);
  }
  std::uint64_t read_mmio(GuestPhys address, unsigned size_bytes) override {
    const std::uint64_t value = read(mmio, mmio_values, address.value, size_bytes);
    if (on_mmio) on_mmio();
    return value;
  }
  void write_mmio(GuestPhys address, unsigned size_bytes, std::uint64_t value) override {
    mmio.push_back({true, address.value, size_bytes, value});
    if (on_mmio) on_mmio();
  }
  cpu::InterruptPort& interrupts(unsigned vcpu) override { return interrupt_ports[vcpu]; }
  void coprocessor_error() override { coprocessor_errors++; }
  unsigned coprocessor_errors = 0;

  void unhalt(std::uint32_t apic_id) override { interrupt_ports[apic_id].unhalt(); }
  int send_ipi(unsigned, std::uint32_t apic_id, std::uint32_t command) override {
    ipis.emplace_back(apic_id, command);
    return 1;
  }

  std::vector<std::pair<std::uint32_t, std::uint32_t>> ipis;        ///< APIC id and command of send_ipi()
  std::vector<BusAccess> ports, mmio;                               ///< what happened, in order
  std::map<std::uint64_t, std::uint64_t> port_values, mmio_values;  ///< answers; others are all ones
  FakeInterrupts interrupt_ports[4];
  std::function<void(std::uint16_t port, std::uint32_t value)> on_port_write;  ///< on the vCPU's thread
  std::function<void()> on_mmio;                                               ///< behind each access, there too

 private:
  static std::uint64_t read(std::vector<BusAccess>& log, const std::map<std::uint64_t, std::uint64_t>& values,
                            std::uint64_t address, unsigned size) {
    const auto at = values.find(address);
    const std::uint64_t ones = ~std::uint64_t{0};
    const std::uint64_t value = (at == values.end() ? ones : at->second) & (ones >> (64 - 8 * size));
    log.push_back({false, address, size, value});
    return value;
  }
};

}  // namespace veneer::engine_tests
