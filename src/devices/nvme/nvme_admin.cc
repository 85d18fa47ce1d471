// Admin commands: queues, identification, features, log pages.
#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "devices/nvme/nvme.h"
#include "devices/nvme/nvme_prp.h"
#include "disk/iov.h"

namespace veneer::devices {

using namespace nvme;

namespace {

constexpr std::string_view model = "Veneer NVMe disk";
constexpr std::string_view firmware = "1";

/// Values of CNS (5.15.1).
enum Cns : std::uint8_t { CNS_NAMESPACE = 0, CNS_CONTROLLER = 1, CNS_ACTIVE_NAMESPACES = 2, CNS_DESCRIPTORS = 3 };

using Page = std::array<std::byte, page_bytes>;

template <typename T>
void put(std::span<std::byte> page, std::size_t offset, T value) {
  std::memcpy(page.data() + offset, &value, sizeof value);
}
/// ASCII, padded with spaces (1.5).
void put_text(std::span<std::byte> page, std::size_t offset, std::size_t size, std::string_view text) {
  std::memset(page.data() + offset, ' ', size);
  std::memcpy(page.data() + offset, text.data(), std::min(size, text.size()));
}

/// Figure 247.
Page controller_page(const disk::Backend& disk) {
  Page page{};
  put<std::uint16_t>(page, 0, 0x1234);  // VID
  put<std::uint16_t>(page, 2, 0x1234);  // SSVID
  put_text(page, 4, 20, disk.serial());
  put_text(page, 24, 40, model);
  put_text(page, 64, 8, firmware);
  put<std::uint8_t>(page, 72, 6);  // RAB
  put<std::uint8_t>(page, 77, MDTS);
  put<std::uint16_t>(page, 78, 1);  // CNTLID
  put<std::uint32_t>(page, 80, VS_VALUE);
  put<std::uint32_t>(page, 92, 1u << ASYNC_NAMESPACE_NOTICES);  // OAES
  put<std::uint8_t>(page, 111, 1);                              // CNTRLTYPE: I/O controller
  put<std::uint8_t>(page, 258, 3);                              // ACL: 4
  put<std::uint8_t>(page, 259, async_events_max - 1);           // AERL
  put<std::uint8_t>(page, 260, 0x03);                           // FRMW: one slot, read-only
  put<std::uint8_t>(page, 261, 0x04);                           // LPA: extended Get Log Page
  put<std::uint16_t>(page, 266, 343);                           // WCTEMP, kelvins
  put<std::uint16_t>(page, 268, 353);                           // CCTEMP
  put<std::uint8_t>(page, 512, 0x66);                           // SQES: 64 bytes
  put<std::uint8_t>(page, 513, 0x44);                           // CQES: 16 bytes
  put<std::uint32_t>(page, 516, 1);                             // NN
  put<std::uint16_t>(page, 520, 0x0c);                          // ONCS: Dataset Management, Write Zeroes
  put<std::uint8_t>(page, 525, disk.write_cache() ? 1 : 0);     // VWC
  const std::string name = "nqn.2014-08.org.nvmexpress:veneer:" + disk.serial();
  std::memcpy(page.data() + 768, name.data(), std::min<std::size_t>(name.size(), 255));  // SUBNQN
  put<std::uint16_t>(page, 2048, 2500);                                                  // PSD0: 25 W
  return page;
}

/// Figure 245.
Page namespace_page(const disk::Backend& disk) {
  Page page{};
  const std::uint64_t blocks = disk.size_bytes() / block_bytes;
  put<std::uint64_t>(page, 0, blocks);   // NSZE
  put<std::uint64_t>(page, 8, blocks);   // NCAP
  put<std::uint64_t>(page, 16, blocks);  // NUSE
  const std::uint32_t preferred = disk.physical_block_bytes() / static_cast<std::uint32_t>(block_bytes);
  put<std::uint8_t>(page, 24, 1u << 4);                                     // NSFEAT: the fields below
  put<std::uint16_t>(page, 64, static_cast<std::uint16_t>(preferred - 1));  // NPWG
  put<std::uint16_t>(page, 66, static_cast<std::uint16_t>(preferred - 1));  // NPWA
  put<std::uint16_t>(page, 68, static_cast<std::uint16_t>(preferred - 1));  // NPDG
  put<std::uint16_t>(page, 70, static_cast<std::uint16_t>(preferred - 1));  // NPDA
  put<std::uint8_t>(page, 99, disk.read_only() ? 1 : 0);                    // NSATTR: write protected
  put<std::uint32_t>(page, 128, std::uint32_t{9} << 16);                    // LBAF0: 512 bytes
  return page;
}

/// 5.15.2.3: one descriptor, a UUID (version 8: of our own making) from the serial number.
Page descriptor_page(const disk::Backend& disk) {
  constexpr std::uint64_t fnv_offset = 0xcbf29ce484222325, fnv_prime = 0x100000001b3;
  Page page{};
  put<std::uint8_t>(page, 0, 3);
  put<std::uint8_t>(page, 1, 16);
  for (unsigned half = 0; half < 2; ++half) {
    std::uint64_t hash = fnv_offset + half;
    for (const char c : disk.serial()) hash = (hash ^ static_cast<std::uint8_t>(c)) * fnv_prime;
    put(page, 4 + 8 * half, hash);
  }
  page[4 + 6] = (page[4 + 6] & std::byte{0x0f}) | std::byte{0x80};
  page[4 + 8] = (page[4 + 8] & std::byte{0x3f}) | std::byte{0x80};
  return page;
}

/// Figure 194: a healthy device.
std::array<std::byte, 512> smart_page() {
  std::array<std::byte, 512> page{};
  put<std::uint16_t>(page, 1, 300);  // composite temperature, kelvins
  put<std::uint8_t>(page, 3, 100);   // available spare, percent
  put<std::uint8_t>(page, 4, 10);    // its threshold
  return page;
}

}  // namespace

void NvmeController::run_admin(const Command& command) {
  Status status = Status::Success;
  std::uint32_t result = 0;
  switch (command.opcode) {
    case CREATE_CQ:
      status = create_completion_queue(command);
      break;
    case CREATE_SQ:
      status = create_submission_queue(command);
      break;
    case DELETE_CQ:
      status = delete_completion_queue(command);
      break;
    case DELETE_SQ:
      status = delete_submission_queue(command);
      break;
    case IDENTIFY:
      status = identify(command);
      break;
    case GET_LOG_PAGE:
      status = get_log_page(command);
      break;
    case SET_FEATURES:
      status = set_features(command, result);
      break;
    case GET_FEATURES:
      status = get_features(command, result);
      break;
    case ABORT:
      result = 1;  // not aborted: it is with the host, and will end
      break;
    case ASYNC_EVENT_REQUEST:
      if (event_requests_.size() >= async_events_max) {
        status = Status::AsyncEventLimitExceeded;
        break;
      }
      --completion_[0].promised;  // no completion is due before there is an event
      event_requests_.push_back(command.id);
      return post_events();
    default:
      status = Status::InvalidOpcode;
  }
  complete(0, command.id, status, result);
}

// ---- Queues (5.3 to 5.6) ------------------------------------------------------------------------------------------

Status NvmeController::create_completion_queue(const Command& command) {
  const std::uint32_t id = command.cdw10 & 0xffff, size = (command.cdw10 >> 16) + 1;
  const std::uint32_t vector = command.cdw11 >> 16;
  if (id == 0 || id >= completion_.size() || completion_[id].size != 0) return Status::InvalidQueueId;
  if (size < 2 || size > queue_entries_max) return Status::InvalidQueueSize;
  if (command.prp1 % page_bytes != 0) return Status::PrpOffsetInvalid;
  if (!(command.cdw11 & 1) || CC_IOCQES::get(cc_) != 4) return Status::InvalidField;  // contiguous, entries of 16 bytes
  if (vector > io_queues_ || (!msix_enabled() && vector != 0)) return Status::InvalidInterruptVector;
  completion_[id] = {.base = command.prp1,
                     .size = size,
                     .vector = static_cast<std::uint16_t>(vector),
                     .interrupts = (command.cdw11 & 2) != 0};
  return Status::Success;
}

Status NvmeController::create_submission_queue(const Command& command) {
  const std::uint32_t id = command.cdw10 & 0xffff, size = (command.cdw10 >> 16) + 1;
  const std::uint32_t answers = command.cdw11 >> 16;
  if (id == 0 || id >= submission_.size() || submission_[id].size != 0) return Status::InvalidQueueId;
  if (answers == 0 || !completion_queue(answers)) return Status::CompletionQueueInvalid;
  if (size < 2 || size > queue_entries_max) return Status::InvalidQueueSize;
  if (command.prp1 % page_bytes != 0) return Status::PrpOffsetInvalid;
  if (!(command.cdw11 & 1) || CC_IOSQES::get(cc_) != 6) return Status::InvalidField;
  submission_[id] = {.base = command.prp1, .size = size, .completion_queue = static_cast<std::uint16_t>(answers)};
  return Status::Success;
}

Status NvmeController::delete_completion_queue(const Command& command) {
  const std::uint32_t id = command.cdw10 & 0xffff;
  if (id == 0 || !completion_queue(id)) return Status::InvalidQueueId;
  for (const SubmissionQueue& queue : submission_)
    if (queue.size != 0 && queue.completion_queue == id) return Status::InvalidQueueDeletion;
  completion_[id] = {};
  update_pin();
  return Status::Success;
}

/// Its commands end first. If a host error keeps one of them, all that are kept are aborted.
Status NvmeController::delete_submission_queue(const Command& command) {
  const std::uint32_t id = command.cdw10 & 0xffff;
  if (id == 0 || !submission_queue(id)) return Status::InvalidQueueId;
  disk_.settle();
  if (std::any_of(active_.begin(), active_.end(), [&](const Active& active) { return active.queue == id; }))
    disk_.cancel();
  submission_[id] = {};
  return Status::Success;
}

// ---- Data for the driver ------------------------------------------------------------------------------------------

Status NvmeController::send(const Command& command, std::span<const std::byte> data) {
  machine::DmaBuffers buffers;
  if (const Status prp = collect_prp(memory_, command, data.size(), machine::DmaAccess::Write, buffers);
      prp != Status::Success)
    return prp;
  disk::iov_copy_in(buffers.pieces(), data.data());
  buffers.announce(memory_);
  return Status::Success;
}

Status NvmeController::identify(const Command& command) {
  switch (command.cdw10 & 0xff) {
    case CNS_CONTROLLER:
      return send(command, controller_page(disk_));
    case CNS_NAMESPACE:
      if (command.nsid == the_namespace) return send(command, namespace_page(disk_));
      // 5.15.2.1: a valid but inactive namespace would be zeroes; there is none, and "all" has no common values.
      return Status::InvalidNamespace;
    case CNS_ACTIVE_NAMESPACES: {
      if (command.nsid >= all_namespaces - 1) return Status::InvalidNamespace;
      Page page{};
      if (command.nsid < the_namespace) put(page, 0, the_namespace);
      return send(command, page);
    }
    case CNS_DESCRIPTORS:
      return command.nsid == the_namespace ? send(command, descriptor_page(disk_)) : Status::InvalidNamespace;
    default:
      return Status::InvalidField;
  }
}

Status NvmeController::get_log_page(const Command& command) {
  const std::uint64_t bytes = ((command.cdw10 >> 16) + (std::uint64_t{command.cdw11 & 0xffff} << 16) + 1) * 4;
  const std::uint64_t offset = command.cdw12 | (std::uint64_t{command.cdw13} << 32);
  if (bytes > transfer_bytes_max) return Status::InvalidField;
  std::vector<std::byte> page;
  switch (command.cdw10 & 0xff) {
    case LOG_ERROR:
      page.resize(64);
      break;
    case LOG_SMART: {
      const auto smart = smart_page();
      page.assign(smart.begin(), smart.end());
      break;
    }
    case LOG_FIRMWARE:
      page.resize(512);
      page[0] = std::byte{1};
      put_text(page, 8, 8, firmware);
      break;
    case LOG_CHANGED_NAMESPACES:
      page.resize(page_bytes);
      put(page, 0, the_namespace);
      break;
    default:
      return Status::InvalidLogPage;
  }
  if (offset > page.size() || offset % 4 != 0) return Status::InvalidField;
  page.erase(page.begin(), page.begin() + static_cast<std::ptrdiff_t>(offset));
  page.resize(bytes);  // what is beyond the page reads as zeroes
  return send(command, page);
}

// ---- Features (5.21, 5.9) -----------------------------------------------------------------------------------------

Status NvmeController::set_features(const Command& command, std::uint32_t& result) {
  const std::uint32_t feature = command.cdw10 & 0xff;
  if (command.cdw10 & (1u << 31)) return Status::FeatureNotSaveable;
  switch (feature) {
    case NUMBER_OF_QUEUES:
      if ((command.cdw11 & 0xffff) == 0xffff || command.cdw11 >> 16 == 0xffff) return Status::InvalidField;
      result = (io_queues_ - 1) | (io_queues_ - 1) << 16;
      return Status::Success;
    case VOLATILE_WRITE_CACHE:
      if (!disk_.write_cache()) return Status::InvalidField;
      features_[feature] = command.cdw11 & 1;
      return Status::Success;
    case POWER_MANAGEMENT:
      return (command.cdw11 & 0x1f) == 0 ? Status::Success : Status::InvalidField;
    case ARBITRATION:
    case TEMPERATURE_THRESHOLD:
    case ERROR_RECOVERY:
    case INTERRUPT_COALESCING:
    case WRITE_ATOMICITY:
    case ASYNC_EVENT_CONFIGURATION:
      features_[feature] = command.cdw11;
      return Status::Success;
    case INTERRUPT_VECTOR:
      return (command.cdw11 & 0xffff) <= io_queues_ ? Status::Success : Status::InvalidField;
    default:
      return Status::InvalidField;
  }
}

Status NvmeController::get_features(const Command& command, std::uint32_t& result) {
  const std::uint32_t feature = command.cdw10 & 0xff;
  if (feature == 0 || feature >= feature_count || feature == 3) return Status::InvalidField;
  if (feature == NUMBER_OF_QUEUES)
    result = (io_queues_ - 1) | (io_queues_ - 1) << 16;
  else if (feature == INTERRUPT_VECTOR)
    result = command.cdw11 & 0xffff;
  else
    result = features_[feature];
  return Status::Success;
}

}  // namespace veneer::devices
