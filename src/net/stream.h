// A network behind a stream socket: each frame has its length in front, as 32 bits in network order (passt, and others
// that speak with it).
#pragma once

#include <memory>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "net/host_end.h"

namespace veneer::net {

/// Takes a connected socket. `name` is for the monitor and for messages. When the other end closes, it is said once and
/// frames are lost from then on, as with a cable that is cut.
Result<std::unique_ptr<HostEnd>> make_stream_end(Fd socket, const std::string& name);

}  // namespace veneer::net
