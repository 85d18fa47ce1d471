// Backend: a disk as a block device sees it. Requests are handed over and complete later.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "disk/io/request.h"

namespace veneer::disk {

/// All calls with the board lock held. It outlives the device that uses it; one device uses it.
class Backend {
 public:
  static constexpr std::uint64_t sector_bytes = 512;

  virtual ~Backend() = default;

  /// A multiple of sector_bytes. Changes only under the board lock, and then the listener is called.
  virtual std::uint64_t size_bytes() const = 0;
  virtual bool read_only() const = 0;
  /// What the guest reads as the disk's serial number; printable ASCII, at most 20 characters.
  virtual const std::string& serial() const = 0;
  /// False: every write is stable when it completes, whatever the guest wants (cache=writethrough).
  virtual bool write_cache() const = 0;
  /// The size in which the host likes its I/O best: a power of two, at least sector_bytes.
  virtual std::uint32_t physical_block_bytes() const = 0;

  /// Takes a request; nothing needs to happen before start().
  virtual void submit(IoRequest request) = 0;
  /// Starts what submit() collected.
  virtual void start() = 0;

  /// Waits until nothing runs and everything that can complete has completed. Requests that a host error has stopped
  /// stay.
  virtual void settle() = 0;
  /// As settle(), and then the stopped ones complete as Cancelled: after it no guest memory is touched.
  virtual void cancel() = 0;

  /// Called when the size has changed. One listener.
  virtual void set_resize_listener(std::function<void()> listener) = 0;
};

}  // namespace veneer::disk
