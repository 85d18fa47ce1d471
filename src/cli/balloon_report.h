// What the monitor says of a guest's memory.
#pragma once

#include <string>

#include "devices/virtio/virtio_balloon.h"

namespace veneer::cli {

/// Of a machine with so much memory. Board lock held. `answered`: the guest's statistics are of this moment.
std::string describe_balloon(const devices::VirtioBalloon& balloon, std::uint64_t memory_bytes, bool answered);

}  // namespace veneer::cli
