// Card: what a guest's network card is to the network of the host.
#pragma once

#include <span>

#include "net/frame.h"

namespace veneer::net {

/// What a card can leave to the guest's driver.
struct CardAbilities {
  bool checksum = false;  ///< frames whose checksum is not done
  bool tcp4 = false, tcp6 = false, udp = false;
  bool takes(Segmentation kind) const {
    switch (kind) {
      case Segmentation::None:
        return true;
      case Segmentation::Tcp4:
        return checksum && tcp4;
      case Segmentation::Tcp6:
        return checksum && tcp6;
      case Segmentation::Udp:
        return checksum && udp;
    }
    return false;
  }
};

enum class Given : std::uint8_t {
  Done,     ///< the guest has it
  Dropped,  ///< the guest does not want it, or will never have room for it
  Full,     ///< not now: the card wakes its link when there is room again
};

/// All calls on the link's thread with the board lock held, while the machine runs.
class Card {
 public:
  virtual ~Card() = default;
  /// The next frame that the guest sends. False when there is none; the card wakes its link for the next one.
  virtual bool take(Frame& out) = 0;
  /// A frame for the guest, with no more left to do than abilities() says.
  virtual Given give(const Frame& frame) = 0;
  virtual CardAbilities abilities() const = 0;
  /// Tells the guest of what was taken and given since the last call.
  virtual void announce() = 0;
};

/// What a card sees of its link. Board lock held.
class CardPort {
 public:
  virtual ~CardPort() = default;
  /// There is something to take, or room again. Cheap when said twice.
  virtual void wake() = 0;
  /// The card was reset: what waits for the guest is not for its next driver.
  virtual void forget_waiting() = 0;
};

}  // namespace veneer::net
