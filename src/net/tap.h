// The network "tap": an interface of the host that somebody with the rights made and configured.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "net/host_end.h"

namespace veneer::net {

/// Opens the interface; an error says what is missing. Frames go with the kernel's offloads (IFF_VNET_HDR).
Result<std::unique_ptr<HostEnd>> make_tap_end(const std::string& interface);

}  // namespace veneer::net
