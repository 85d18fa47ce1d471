// InterruptRemapper: what may stand between those who send interrupt messages and the local APICs (an IOMMU).
#pragma once

#include <cstdint>
#include <optional>

namespace veneer::devices {

struct ApicMessage;

/// All calls with the board lock held.
class InterruptRemapper {
 public:
  /// The message that is delivered in place of this one, which the function with this requester ID sent; nothing when
  /// none is.
  virtual std::optional<ApicMessage> remap(std::uint16_t requester, const ApicMessage& message) = 0;

 protected:
  ~InterruptRemapper() = default;
};

}  // namespace veneer::devices
