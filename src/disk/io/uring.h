// Uring: transfers that the kernel carries out by itself, through io_uring.
#pragma once

#include <liburing.h>
#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>

#include "base/fd.h"
#include "base/result.h"

namespace veneer::disk {

/// Not thread-safe: its owner's lock guards it.
class Uring {
 public:
  /// Fails where the host forbids io_uring (many containers do) or has none.
  static Result<std::unique_ptr<Uring>> create(unsigned entries);
  ~Uring();
  Uring(const Uring&) = delete;
  Uring& operator=(const Uring&) = delete;

  enum class Transfer : std::uint8_t { Read, Write };
  /// Prepares a transfer; false when the ring is full. `buffers` must stay valid until it has finished.
  bool prepare(Transfer transfer, int fd, std::uint64_t offset, std::span<const iovec> buffers, void* tag);
  /// Hands over what was prepared. What the kernel could finish at once is there for reap() then, which must follow.
  void submit();
  /// The next finished transfer: its tag, and the bytes moved or a negative errno value.
  bool reap(void*& tag, int& result);
  /// Waits until reap() has something to give; there must be a transfer on its way.
  void wait();

  /// Becomes readable when something has finished that reap() after submit() cannot have found.
  int event_fd() const { return event_fd_.get(); }
  void clear_event();

 private:
  Uring() = default;
  io_uring ring_{};
  bool made_ = false;
  unsigned prepared_ = 0;
  unsigned entries_ = 0;
  unsigned on_its_way_ = 0;  // bounded by entries_, so that no completion can overflow
  Fd event_fd_;
};

}  // namespace veneer::disk
