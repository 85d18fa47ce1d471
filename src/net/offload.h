// Doing in the host what a guest's driver or a host's network left to the card: checksums, cutting large packets.
#pragma once

#include <functional>

#include "net/frame.h"

namespace veneer::net {

/// Puts the checksum where Offload says; a place outside the frame is the guest's fault, and the frame stays as it is.
void complete_checksum(Frame& frame);

/// Makes one whole packet of a frame with a segmentation, larger than the wire's, with all lengths and checksums right.
/// False for a frame that is not what its offload says, which is to be dropped.
bool make_whole(Frame& frame);

/// For cards whose drivers leave the lengths of a packet to be segmented to the hardware: fills them in, with a TCP
/// checksum that is to be completed. False for a frame that is not what its offload says.
bool complete_segmentation(Frame& frame);

/// The segments or fragments that the frame stands for, each ready for the wire, in order. False for a frame that is
/// not what its offload says; nothing came out then.
bool cut(const Frame& frame, const std::function<void(const Frame&)>& sink);

/// Describes a packet that is larger than the wire's as one that stands for several, its checksum not done. Larger IPv4
/// packets that are neither TCP nor UDP become Segmentation::Udp without a checksum to do, which only cut() takes.
/// Frames that fit stay as they are. False for what has to be dropped: larger IPv6 packets that are not TCP, which
/// nobody but their sender may cut (RFC 8200 4.5).
bool mark_large(Frame& frame);

}  // namespace veneer::net
