// The segment size that a guest asks of TCP's other end, raised where that end is in the host.
#pragma once

#include <cstddef>
#include <span>

namespace veneer::net {

/// A frame from the guest. The MSS option of its SYN, when it is what a driver of our wire's MTU says, becomes the
/// largest there is, so that the other end sends large packets, which mark_large() describes to the card. A guest that
/// asks for less than usual gets what it asks for.
void raise_mss(std::span<std::byte> frame);

}  // namespace veneer::net
