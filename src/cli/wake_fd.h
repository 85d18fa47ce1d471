// WakeFd: wakes a thread that sits in poll().
#pragma once

#include <sys/eventfd.h>

#include "base/assert.h"
#include "base/fd.h"

namespace veneer::cli {

class WakeFd {
 public:
  WakeFd() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) { VENEER_ASSERT(fd_.valid()); }
  int get() const { return fd_.get(); }
  /// Thread-safe and async-signal-safe.
  void wake() const { eventfd_write(fd_.get(), 1); }
  void clear() const {
    eventfd_t count = 0;
    eventfd_read(fd_.get(), &count);
  }

 private:
  Fd fd_;
};

}  // namespace veneer::cli
