// HostEnd: the host's side of a link: a network in user space, a tap interface.
#pragma once

#include <poll.h>

#include <functional>
#include <string>
#include <vector>

#include "net/frame.h"

namespace veneer::net {

/// Where an end puts frames for the guest. They are copied.
using FrameSink = std::function<void(std::span<const std::byte> bytes, const Offload& offload)>;

/// All calls on the link's thread without the board lock, except for the constructors and describe().
class HostEnd {
 public:
  virtual ~HostEnd() = default;

  /// A frame from the guest, for the end to use up.
  virtual void send(Frame& frame) = 0;
  /// Adds what is to be waited for; `timeout_ms` (-1: for ever) may become less.
  virtual void prepare(std::vector<pollfd>& watched, int& timeout_ms) = 0;
  /// After the wait: what prepare() added, with what happened.
  virtual void handle(std::span<const pollfd> watched, const FrameSink& sink) = 0;
  /// Frames that came up outside handle(), while sending. Then handle() is called soon.
  virtual bool has_more() const { return false; }

  /// True for an end that opens files while the guest runs (ThreadKind::NetFiles).
  virtual bool opens_files() const { return false; }

  /// One line for the monitor. Any thread.
  virtual std::string describe() const = 0;
};

}  // namespace veneer::net
