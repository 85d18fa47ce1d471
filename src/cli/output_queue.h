// OutputQueue: bytes on their way to a file descriptor that may be slow, stuck or gone.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "machine/char_sink.h"

namespace veneer::cli {

/// A bounded queue with a writer thread of its own. The guest's serial port writes here under the board lock.
///
/// Promises: bytes leave in order; while the reader is slow the writer of the queue waits (the guest stands still, as
/// behind a slow terminal) until abandon(); when the descriptor fails, that is said once on standard error, later bytes
/// are counted and finish() says how many were lost. All calls are thread-safe.
class OutputQueue final : public machine::CharSink {
 public:
  /// Writes to a duplicate of `fd`. `what` names it in messages: "standard output".
  OutputQueue(int fd, std::string what);
  ~OutputQueue() override;
  OutputQueue(const OutputQueue&) = delete;
  OutputQueue& operator=(const OutputQueue&) = delete;

  void write(std::span<const std::uint8_t> bytes) override;
  /// Like write(), but gives up after `limit`: for text of ours, which must not stop the keyboard from being read.
  void write_text(std::string_view text, std::chrono::milliseconds limit);

  /// From now on nobody waits for room. Called before a machine is asked to stop.
  void abandon();
  /// Writes out what is queued, for as long as bytes keep leaving within `patience`; then reports what was lost.
  void finish(std::chrono::milliseconds patience);

  static constexpr std::size_t capacity_bytes = 256 * 1024;

 private:
  struct State;
  std::shared_ptr<State> state_;  // shared with the writer thread, which may outlive us inside a blocked write()
};

}  // namespace veneer::cli
