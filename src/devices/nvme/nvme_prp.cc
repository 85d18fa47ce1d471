// PRP entries and lists.
#include "devices/nvme/nvme_prp.h"

#include <algorithm>

namespace veneer::devices::nvme {
namespace {

constexpr std::uint64_t entry_bytes = 8;

bool page_aligned(std::uint64_t address) { return address % page_bytes == 0; }

}  // namespace

Status collect_prp(const machine::DmaSpace& memory, const Command& command, std::uint64_t bytes,
                   machine::DmaAccess access, machine::DmaBuffers& data) {
  const std::uint64_t first = std::min(bytes, page_bytes - command.prp1 % page_bytes);
  if (command.prp1 % 4 != 0) return Status::PrpOffsetInvalid;
  if (!data.add(memory, GuestPhys{command.prp1}, first, access)) return Status::DataTransferError;
  bytes -= first;
  if (bytes == 0) return Status::Success;
  if (bytes <= page_bytes) {
    if (!page_aligned(command.prp2)) return Status::PrpOffsetInvalid;
    return data.add(memory, GuestPhys{command.prp2}, bytes, access) ? Status::Success : Status::DataTransferError;
  }
  std::uint64_t list = command.prp2;
  if (list % entry_bytes != 0) return Status::PrpOffsetInvalid;
  while (bytes > 0) {
    std::uint64_t entry = 0;
    if (!memory.read_value(GuestPhys{list}, entry)) return Status::DataTransferError;
    if (!page_aligned(entry)) return Status::PrpOffsetInvalid;
    // The last entry of a list page points to the next list when the data does not end with it. That one begins at the
    // start of a page, so every list but the first has 511 pages of data, and there is no going in circles.
    if ((list + entry_bytes) % page_bytes == 0 && bytes > page_bytes) {
      list = entry;
      continue;
    }
    const std::uint64_t piece = std::min(bytes, page_bytes);
    if (!data.add(memory, GuestPhys{entry}, piece, access)) return Status::DataTransferError;
    bytes -= piece;
    list += entry_bytes;
  }
  return Status::Success;
}

}  // namespace veneer::devices::nvme
