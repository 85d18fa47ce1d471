// Registers, commands and status codes of NVM Express, as far as the controller knows them.
//
// Spec: NVM Express Base Specification 1.4.
#pragma once

#include <cstdint>

#include "base/bits.h"

namespace veneer::devices::nvme {

inline constexpr std::uint64_t page_bytes = 4096;  // CC.MPS is always 0
inline constexpr std::uint64_t block_bytes = 512;  // the only LBA format
inline constexpr std::uint32_t the_namespace = 1;
inline constexpr std::uint32_t all_namespaces = 0xffff'ffff;

/// Controller registers (3.1).
enum Register : std::uint64_t {
  CAP = 0x00,
  VS = 0x08,
  INTMS = 0x0c,
  INTMC = 0x10,
  CC = 0x14,
  CSTS = 0x1c,
  AQA = 0x24,
  ASQ = 0x28,
  ACQ = 0x30,
  DOORBELLS = 0x1000,
};

using CC_EN = Bits<0, 0>;
using CC_CSS = Bits<6, 4>;
using CC_MPS = Bits<10, 7>;
using CC_SHN = Bits<15, 14>;
using CC_IOSQES = Bits<19, 16>;
using CC_IOCQES = Bits<23, 20>;
inline constexpr std::uint32_t CSTS_RDY = 1, CSTS_CFS = 2;
using CSTS_SHST = Bits<3, 2>;
inline constexpr std::uint32_t SHST_OCCURRING = 1, SHST_COMPLETE = 2;

inline constexpr unsigned queue_entries_max = 1024;
inline constexpr std::uint64_t CAP_VALUE =
    (queue_entries_max - 1) | bit(16) /* CQR */ | (std::uint64_t{20} << 24) /* TO: 10 s */ | bit(37) /* CSS: NVM */;
inline constexpr std::uint32_t VS_VALUE = 0x0001'0400;

/// A submission queue entry (4.2).
struct Command {
  std::uint8_t opcode, flags;  ///< flags: FUSE 1:0, PSDT 7:6
  std::uint16_t id;
  std::uint32_t nsid;
  std::uint32_t cdw2, cdw3;
  std::uint64_t metadata;
  std::uint64_t prp1, prp2;
  std::uint32_t cdw10, cdw11, cdw12, cdw13, cdw14, cdw15;
};
static_assert(sizeof(Command) == 64);

/// A completion queue entry (4.6).
struct Completion {
  std::uint32_t result, reserved;
  std::uint16_t sq_head, sq_id;
  std::uint16_t command_id;
  std::uint16_t status;  ///< bit 0: phase
};
static_assert(sizeof(Completion) == 16);

/// Admin commands (5).
enum AdminOpcode : std::uint8_t {
  DELETE_SQ = 0x00,
  CREATE_SQ = 0x01,
  GET_LOG_PAGE = 0x02,
  DELETE_CQ = 0x04,
  CREATE_CQ = 0x05,
  IDENTIFY = 0x06,
  ABORT = 0x08,
  SET_FEATURES = 0x09,
  GET_FEATURES = 0x0a,
  ASYNC_EVENT_REQUEST = 0x0c,
};

/// NVM commands (6).
enum IoOpcode : std::uint8_t {
  FLUSH = 0x00,
  WRITE = 0x01,
  READ = 0x02,
  WRITE_ZEROES = 0x08,
  DATASET_MANAGEMENT = 0x09
};

/// Status code type and status code (4.6.1), as they stand in bits 11:1 of the status field.
enum class Status : std::uint16_t {
  Success = 0x000,
  InvalidOpcode = 0x001,
  InvalidField = 0x002,
  DataTransferError = 0x004,
  InternalError = 0x006,
  AbortRequested = 0x007,
  InvalidNamespace = 0x00b,
  CommandSequenceError = 0x00c,
  PrpOffsetInvalid = 0x013,
  LbaOutOfRange = 0x080,
  CapacityExceeded = 0x081,
  CompletionQueueInvalid = 0x100,
  InvalidQueueId = 0x101,
  InvalidQueueSize = 0x102,
  AsyncEventLimitExceeded = 0x105,
  InvalidInterruptVector = 0x108,
  InvalidLogPage = 0x109,
  InvalidQueueDeletion = 0x10c,
  FeatureNotSaveable = 0x10d,
  ReadOnlyRange = 0x182,
  WriteFault = 0x280,
  UnrecoveredRead = 0x281,
};

/// Features (5.21.1).
enum Feature : std::uint8_t {
  ARBITRATION = 0x01,
  POWER_MANAGEMENT = 0x02,
  TEMPERATURE_THRESHOLD = 0x04,
  ERROR_RECOVERY = 0x05,
  VOLATILE_WRITE_CACHE = 0x06,
  NUMBER_OF_QUEUES = 0x07,
  INTERRUPT_COALESCING = 0x08,
  INTERRUPT_VECTOR = 0x09,
  WRITE_ATOMICITY = 0x0a,
  ASYNC_EVENT_CONFIGURATION = 0x0b,
};
inline constexpr std::size_t feature_count = 0x0c;

/// Log pages (5.14.1).
enum LogPage : std::uint8_t { LOG_ERROR = 1, LOG_SMART = 2, LOG_FIRMWARE = 3, LOG_CHANGED_NAMESPACES = 4 };

/// Asynchronous events (5.2): type, information and log page, as in the completion's result.
inline constexpr std::uint32_t EVENT_INVALID_DOORBELL = 0x0001'0000;
inline constexpr std::uint32_t EVENT_INVALID_DOORBELL_VALUE = 0x0001'0100;
inline constexpr std::uint32_t EVENT_NAMESPACE_CHANGED = 0x0004'0002;
inline constexpr unsigned ASYNC_NAMESPACE_NOTICES = 8;  // bit of OAES and of the feature

inline constexpr unsigned async_events_max = 4;
/// Transfers of 2^7 pages: 512 KiB.
inline constexpr unsigned MDTS = 7;
inline constexpr std::uint64_t transfer_bytes_max = page_bytes << MDTS;

}  // namespace veneer::devices::nvme
