// What hangs on one of the two PS/2 ports: bytes both ways.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>

#include "machine/snapshot.h"

namespace veneer::devices {

/// Board lock held in all calls.
class Ps2Device {
 public:
  virtual ~Ps2Device() = default;

  /// A byte from the controller: a command, or the argument of one.
  virtual void receive(std::uint8_t byte) = 0;

  /// Bytes for the controller wait; take() gives the next.
  bool has_output() const { return count_ > 0; }
  std::uint8_t take();
  /// Gives bytes back that were taken but not delivered.
  void give_back(std::span<const std::uint8_t> bytes);

  /// Called when output has come. Set once.
  void set_listener(std::function<void()> listener) { listener_ = std::move(listener); }

  virtual void save(machine::SnapshotWriter& out) const;
  virtual void restore(machine::SnapshotReader& in);
  virtual void reset() { clear_output(); }

 protected:
  static constexpr std::uint8_t ACK = 0xfa, RESEND = 0xfe, SELF_TEST_PASSED = 0xaa;

  /// All or nothing, so that no half of a sequence is left. False when there is no room.
  bool send(std::span<const std::uint8_t> bytes);
  bool send(std::initializer_list<std::uint8_t> bytes) { return send(std::span(bytes.begin(), bytes.size())); }
  void clear_output() { head_ = count_ = 0; }
  /// The last byte was taken.
  virtual void output_taken() {}

 private:
  static constexpr std::size_t queue_bytes = 32;
  void put(std::uint8_t byte);

  std::function<void()> listener_;
  std::array<std::uint8_t, queue_bytes> queue_{};
  std::uint8_t head_ = 0, count_ = 0;
};

}  // namespace veneer::devices
