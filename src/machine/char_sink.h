// CharSink: where a character device sends what the guest writes.
#pragma once

#include <cstdint>
#include <span>

namespace veneer::machine {

/// The host's side of a serial port. Called with the board lock held, so it must not wait for a slow reader: it
/// buffers (bounded) or drops.
class CharSink {
 public:
  virtual ~CharSink() = default;
  virtual void write(std::span<const std::uint8_t> data) = 0;
};

}  // namespace veneer::machine
