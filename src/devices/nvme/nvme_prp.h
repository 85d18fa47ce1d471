// Physical region pages: where a command's data is.
#pragma once

#include "devices/nvme/nvme_defs.h"
#include "machine/dma.h"

namespace veneer::devices::nvme {

/// Follows PRP1 and PRP2 for `bytes` (at most transfer_bytes_max) and collects the pages in `data` (NVMe 1.4 4.3),
/// which the controller is going to access in this way. Success, PrpOffsetInvalid, or DataTransferError where there is
/// no RAM. Bounded work, whatever the lists say.
Status collect_prp(const machine::DmaSpace& memory, const Command& command, std::uint64_t bytes,
                   machine::DmaAccess access, machine::DmaBuffers& data);

}  // namespace veneer::devices::nvme
