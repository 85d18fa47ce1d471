// The controller behind its registers, driven by a tiny driver: well and badly.
#include "devices/nvme/nvme.h"

#include <gtest/gtest.h>

#include <array>
#include <optional>
#include <string>

#include "devices/pci/pci_bus.h"
#include "devices/testing/fake_backend.h"
#include "devices/testing/fakes.h"

namespace veneer::devices {
namespace {

using namespace nvme;

constexpr std::uint64_t ram_bytes = 4 * MiB;
constexpr std::uint64_t admin_sq = 0x1000, admin_cq = 0x2000, io_sq = 0x3000, io_cq = 0x4000, data_at = 0x100000;
constexpr std::uint32_t admin_entries = 16, io_entries = 8;

struct Answer {
  std::uint16_t id;
  Status status;
  std::uint32_t result;
};

/// One queue pair as the driver sees it.
struct Pair {
  std::uint16_t id;
  std::uint64_t sq, cq;
  std::uint32_t entries;
  std::uint32_t tail = 0, head = 0;
  bool phase = true;
};

class NvmeTest : public ::testing::Test {
 protected:
  NvmeTest() {
    EXPECT_TRUE(ram.add("ram", GuestPhys{0}, ram_bytes, machine::SlotKind::Ram).ok());
    bus.plug(8, controller);
    bus.reset();
    bus.assign_resources({0xc0000000, 0x100000, 0, 0, 0, 0});
    controller.write_config(pci::COMMAND, 2, pci::COMMAND_MEMORY | pci::COMMAND_MASTER);
    registers = controller.bar_address(0);
  }
  std::uint32_t read(std::uint64_t offset) { return static_cast<std::uint32_t>(memory.read(registers + offset, 4)); }
  void write(std::uint64_t offset, std::uint64_t value, unsigned size = 4) {
    memory.write(registers + offset, size, value);
  }
  void enable() {
    write(AQA, (admin_entries - 1) | (admin_entries - 1) << 16);
    write(ASQ, admin_sq, 8);
    write(ACQ, admin_cq, 8);
    write(CC, 0x0046'0001);
  }
  /// Puts a command into a queue; ring() tells the controller.
  void put(Pair& pair, const Command& command) {
    ASSERT_TRUE(ram.write_value(GuestPhys{pair.sq + 64 * pair.tail}, command));
    pair.tail = (pair.tail + 1) % pair.entries;
  }
  void ring(const Pair& pair) { write(DOORBELLS + 8 * pair.id, pair.tail); }
  std::optional<Answer> take(Pair& pair, bool tell = true) {
    Completion entry{};
    EXPECT_TRUE(ram.read_value(GuestPhys{pair.cq + 16 * pair.head}, entry));
    if ((entry.status & 1) != (pair.phase ? 1 : 0)) return std::nullopt;
    pair.head = (pair.head + 1) % pair.entries;
    if (pair.head == 0) pair.phase = !pair.phase;
    if (tell) write(DOORBELLS + 8 * pair.id + 4, pair.head);
    return Answer{entry.command_id, static_cast<Status>(entry.status >> 1), entry.result};
  }
  Answer run(Pair& pair, Command command) {
    command.id = ++last_id;
    put(pair, command);
    ring(pair);
    const auto answer = take(pair);
    EXPECT_TRUE(answer.has_value());
    if (!answer) return {0, Status::InternalError, 0};
    EXPECT_EQ(answer->id, command.id);
    return *answer;
  }
  Answer run_admin(std::uint8_t opcode, std::uint32_t cdw10 = 0, std::uint32_t cdw11 = 0, std::uint64_t prp1 = 0,
                   std::uint32_t nsid = 0) {
    Command command{};
    command.opcode = opcode;
    command.cdw10 = cdw10;
    command.cdw11 = cdw11;
    command.prp1 = prp1;
    command.nsid = nsid;
    return run(admin, command);
  }
  void make_io_queue() {
    ASSERT_EQ(run_admin(CREATE_CQ, 1 | (io_entries - 1) << 16, 3, io_cq).status, Status::Success);
    ASSERT_EQ(run_admin(CREATE_SQ, 1 | (io_entries - 1) << 16, 1 | 1 << 16, io_sq).status, Status::Success);
  }
  void start() {
    enable();
    make_io_queue();
  }
  static Command io(std::uint8_t opcode, std::uint64_t block, std::uint32_t blocks, std::uint64_t prp1 = data_at,
                    std::uint64_t prp2 = 0) {
    Command command{};
    command.opcode = opcode;
    command.nsid = 1;
    command.prp1 = prp1;
    command.prp2 = prp2;
    command.cdw10 = static_cast<std::uint32_t>(block);
    command.cdw11 = static_cast<std::uint32_t>(block >> 32);
    command.cdw12 = blocks - 1;
    return command;
  }
  Status run_io(const Command& command) { return run(queue, command).status; }
  template <typename T>
  T peek(std::uint64_t address) {
    T value{};
    EXPECT_TRUE(ram.read_value(GuestPhys{address}, value));
    return value;
  }

  machine::BoardLock lock;
  machine::Bus memory{"memory", lock};
  machine::Bus ports{"port", lock};
  machine::GuestMemory ram;
  ApicBus apics{lock};
  std::array<testing::FakeIrqLine, 4> lines;
  PciBus bus{{memory, ports, apics, {&lines[0], &lines[1], &lines[2], &lines[3]}}};
  testing::FakeBackend disk{1 * MiB};
  NvmeController controller{"nvme", ram, disk, 2};
  std::uint64_t registers = 0;
  Pair admin{0, admin_sq, admin_cq, admin_entries};
  Pair queue{1, io_sq, io_cq, io_entries};
  std::uint16_t last_id = 0;
};

// ---- Registers ----------------------------------------------------------------------------------------------------

TEST_F(NvmeTest, IsAnNvmeControllerByItsClass) {
  EXPECT_EQ(controller.read_config(pci::CLASS_CODE - 1, 4) >> 8, 0x010802u);
}
TEST_F(NvmeTest, ReadsItsCapabilitiesAsAWhole) { EXPECT_EQ(memory.read(registers + CAP, 8), CAP_VALUE); }
TEST_F(NvmeTest, BecomesReady) {
  enable();
  EXPECT_EQ(read(CSTS), CSTS_RDY);
}
TEST_F(NvmeTest, ADisabledControllerIsNotReady) {
  enable();
  write(CC, 0x0046'0000);
  EXPECT_EQ(read(CSTS), 0u);
}
TEST_F(NvmeTest, LargePagesAreAFatalStatus) {
  write(AQA, 0x000f'000f);
  write(CC, 0x0046'0081);
  EXPECT_EQ(read(CSTS), CSTS_CFS);
}
TEST_F(NvmeTest, AnAdminQueueOfOneEntryIsAFatalStatus) {
  write(CC, 0x0046'0001);
  EXPECT_EQ(read(CSTS), CSTS_CFS);
}
TEST_F(NvmeTest, ShutdownFlushes) {
  start();
  write(CC, 0x0046'4001);
  EXPECT_EQ(CSTS_SHST::get(read(CSTS)), SHST_COMPLETE);
  EXPECT_EQ(disk.flushes, 1u);
}

// ---- Admin commands -----------------------------------------------------------------------------------------------

TEST_F(NvmeTest, IdentifiesTheController) {
  enable();
  EXPECT_EQ(run_admin(IDENTIFY, 1, 0, data_at).status, Status::Success);
  EXPECT_EQ(peek<std::uint32_t>(data_at + 4), 0x6b736964u);  // "disk"
  EXPECT_EQ(peek<std::uint32_t>(data_at + 516), 1u);
}
TEST_F(NvmeTest, IdentifiesTheNamespace) {
  enable();
  EXPECT_EQ(run_admin(IDENTIFY, 0, 0, data_at, 1).status, Status::Success);
  EXPECT_EQ(peek<std::uint64_t>(data_at), 1 * MiB / 512);
}
TEST_F(NvmeTest, ListsTheNamespace) {
  enable();
  EXPECT_EQ(run_admin(IDENTIFY, 2, 0, data_at, 0).status, Status::Success);
  EXPECT_EQ(peek<std::uint32_t>(data_at), 1u);
}
TEST_F(NvmeTest, HasNoOtherNamespace) {
  enable();
  EXPECT_EQ(run_admin(IDENTIFY, 0, 0, data_at, 2).status, Status::InvalidNamespace);
}
TEST_F(NvmeTest, DescribesTheNamespace) {
  enable();
  EXPECT_EQ(run_admin(IDENTIFY, 3, 0, data_at, 1).status, Status::Success);
  EXPECT_EQ(peek<std::uint16_t>(data_at), 0x1003u);
}
TEST_F(NvmeTest, GivesItsNumberOfQueues) {
  enable();
  EXPECT_EQ(run_admin(SET_FEATURES, NUMBER_OF_QUEUES, 0x001f'001f).result, 0x0001'0001u);
}
TEST_F(NvmeTest, GivesASmartLog) {
  enable();
  EXPECT_EQ(run_admin(GET_LOG_PAGE, LOG_SMART | 127 << 16, 0, data_at).status, Status::Success);
  EXPECT_EQ(peek<std::uint16_t>(data_at + 1), 300u);
}
TEST_F(NvmeTest, AnUnknownLogPage) {
  enable();
  EXPECT_EQ(run_admin(GET_LOG_PAGE, 0x77, 0, data_at).status, Status::InvalidLogPage);
}
TEST_F(NvmeTest, AnUnknownCommand) {
  enable();
  EXPECT_EQ(run_admin(0x7f).status, Status::InvalidOpcode);
}
TEST_F(NvmeTest, AbortAbortsNothing) {
  enable();
  EXPECT_EQ(run_admin(ABORT, 1).result, 1u);
}
TEST_F(NvmeTest, ASavedFeatureIsRefused) {
  enable();
  EXPECT_EQ(run_admin(SET_FEATURES, VOLATILE_WRITE_CACHE | 1u << 31).status, Status::FeatureNotSaveable);
}

// ---- Queues -------------------------------------------------------------------------------------------------------

TEST_F(NvmeTest, AQueueTwice) {
  start();
  EXPECT_EQ(run_admin(CREATE_CQ, 1 | 7 << 16, 3, io_cq).status, Status::InvalidQueueId);
}
TEST_F(NvmeTest, AQueueBeyondTheLast) {
  enable();
  EXPECT_EQ(run_admin(CREATE_CQ, 3 | 7 << 16, 3, io_cq).status, Status::InvalidQueueId);
}
TEST_F(NvmeTest, AQueueTooLarge) {
  enable();
  EXPECT_EQ(run_admin(CREATE_CQ, 1 | 0xffffu << 16, 3, io_cq).status, Status::InvalidQueueSize);
}
TEST_F(NvmeTest, AVectorThatIsNotThere) {
  enable();
  EXPECT_EQ(run_admin(CREATE_CQ, 1 | 7 << 16, 3 | 99 << 16, io_cq).status, Status::InvalidInterruptVector);
}
TEST_F(NvmeTest, ASubmissionQueueWithoutItsCompletionQueue) {
  enable();
  EXPECT_EQ(run_admin(CREATE_SQ, 1 | 7 << 16, 1 | 1 << 16, io_sq).status, Status::CompletionQueueInvalid);
}
TEST_F(NvmeTest, ACompletionQueueInUseIsNotDeleted) {
  start();
  EXPECT_EQ(run_admin(DELETE_CQ, 1).status, Status::InvalidQueueDeletion);
}
TEST_F(NvmeTest, QueuesAreDeletedInOrder) {
  start();
  EXPECT_EQ(run_admin(DELETE_SQ, 1).status, Status::Success);
  EXPECT_EQ(run_admin(DELETE_CQ, 1).status, Status::Success);
}
TEST_F(NvmeTest, DeletingAQueueAbortsWhatIsStuck) {
  start();
  disk.stuck = true;
  put(queue, io(WRITE, 0, 1));
  ring(queue);
  EXPECT_EQ(run_admin(DELETE_SQ, 1).status, Status::Success);
  EXPECT_EQ(take(queue)->status, Status::AbortRequested);
}

// ---- Reading, writing ---------------------------------------------------------------------------------------------

TEST_F(NvmeTest, Reads) {
  disk.bytes[3 * 512] = std::byte{0x5a};
  start();
  EXPECT_EQ(run_io(io(READ, 3, 2)), Status::Success);
  EXPECT_EQ(peek<std::uint8_t>(data_at), 0x5a);
}
TEST_F(NvmeTest, Writes) {
  start();
  ASSERT_TRUE(ram.write_value(GuestPhys{data_at + 512}, std::uint8_t{0x77}));
  EXPECT_EQ(run_io(io(WRITE, 2, 2)), Status::Success);
  EXPECT_EQ(disk.bytes[3 * 512], std::byte{0x77});
  EXPECT_FALSE(disk.last.force_unit_access);
}
TEST_F(NvmeTest, AForcedWriteIsStable) {
  start();
  Command command = io(WRITE, 0, 1);
  command.cdw12 |= 1u << 30;
  EXPECT_EQ(run_io(command), Status::Success);
  EXPECT_TRUE(disk.last.force_unit_access);
}
TEST_F(NvmeTest, WithoutWriteCacheWritesAreStable) {
  start();
  ASSERT_EQ(run_admin(SET_FEATURES, VOLATILE_WRITE_CACHE, 0).status, Status::Success);
  EXPECT_EQ(run_io(io(WRITE, 0, 1)), Status::Success);
  EXPECT_TRUE(disk.last.force_unit_access);
}
TEST_F(NvmeTest, ReadsAreAnnouncedToTheTranslator) {
  ram.find(GuestPhys{0})->code_pages[data_at >> page_shift] = 1;
  unsigned heard = 0;
  ram.set_code_write_listener([&](machine::MemorySlot&, std::uint64_t, std::uint64_t) { ++heard; });
  start();
  EXPECT_EQ(run_io(io(READ, 0, 1)), Status::Success);
  EXPECT_EQ(heard, 1u);
}
TEST_F(NvmeTest, Flushes) {
  start();
  EXPECT_EQ(run_io(io(FLUSH, 0, 1)), Status::Success);
  EXPECT_EQ(disk.flushes, 1u);
}
TEST_F(NvmeTest, WritesZeroes) {
  disk.bytes[512] = std::byte{1};
  start();
  EXPECT_EQ(run_io(io(nvme::WRITE_ZEROES, 1, 1)), Status::Success);
  EXPECT_EQ(disk.bytes[512], std::byte{0});
}
TEST_F(NvmeTest, Deallocates) {
  start();
  ASSERT_TRUE(ram.write_value(GuestPhys{data_at + 4}, std::uint32_t{8}));
  ASSERT_TRUE(ram.write_value(GuestPhys{data_at + 8}, std::uint64_t{16}));
  Command command = io(DATASET_MANAGEMENT, 0, 1);
  command.cdw10 = 0;
  command.cdw11 = 4;
  EXPECT_EQ(run_io(command), Status::Success);
  EXPECT_EQ(disk.last.kind, disk::IoKind::Discard);
  EXPECT_EQ(disk.last.offset, 16u * 512);
  EXPECT_EQ(disk.last.bytes, 8u * 512);
}
TEST_F(NvmeTest, CompletesLaterAndInterrupts) {
  disk.hold = true;
  start();
  put(queue, io(READ, 0, 1));
  ring(queue);
  EXPECT_FALSE(take(queue).has_value());
  EXPECT_FALSE(lines[0].level);
  disk.release();
  EXPECT_TRUE(lines[0].level);
  EXPECT_TRUE(take(queue).has_value());
  EXPECT_FALSE(lines[0].level);
}
TEST_F(NvmeTest, MaskedInterruptsStayAway) {
  start();
  write(INTMS, 1);
  put(queue, io(READ, 0, 1));
  ring(queue);
  EXPECT_FALSE(lines[0].level);
  write(INTMC, 1);
  EXPECT_TRUE(lines[0].level);
}
TEST_F(NvmeTest, QueuesWrapAround) {
  start();
  for (unsigned i = 0; i < 5 * io_entries; ++i) ASSERT_EQ(run_io(io(READ, i, 1)), Status::Success);
}
TEST_F(NvmeTest, AFailureOfTheHost) {
  disk.answer = disk::IoStatus::Failed;
  start();
  EXPECT_EQ(run_io(io(WRITE, 0, 1)), Status::WriteFault);
}
TEST_F(NvmeTest, AFullHost) {
  disk.answer = disk::IoStatus::NoSpace;
  start();
  EXPECT_EQ(run_io(io(WRITE, 0, 1)), Status::CapacityExceeded);
}

// ---- Events -------------------------------------------------------------------------------------------------------

TEST_F(NvmeTest, AnotherSizeIsAnEvent) {
  enable();
  ASSERT_EQ(run_admin(SET_FEATURES, ASYNC_EVENT_CONFIGURATION, 1u << 8).status, Status::Success);
  Command command{};
  command.opcode = ASYNC_EVENT_REQUEST;
  command.id = 77;
  put(admin, command);
  ring(admin);
  EXPECT_FALSE(take(admin).has_value());
  disk.resize(2 * MiB);
  const auto answer = take(admin);
  ASSERT_TRUE(answer.has_value());
  EXPECT_EQ(answer->id, 77);
  EXPECT_EQ(answer->result, EVENT_NAMESPACE_CHANGED);
}
TEST_F(NvmeTest, TooManyEventRequests) {
  enable();
  Command command{};
  command.opcode = ASYNC_EVENT_REQUEST;
  for (unsigned i = 0; i < async_events_max; ++i) put(admin, command);
  ring(admin);
  EXPECT_EQ(run(admin, command).status, Status::AsyncEventLimitExceeded);
}

// ---- Hostile drivers ----------------------------------------------------------------------------------------------

TEST_F(NvmeTest, ABlockBeyondTheEnd) {
  start();
  EXPECT_EQ(run_io(io(READ, 2048, 1)), Status::LbaOutOfRange);
}
TEST_F(NvmeTest, ATransferAcrossTheEnd) {
  start();
  EXPECT_EQ(run_io(io(WRITE, 2047, 2)), Status::LbaOutOfRange);
}
TEST_F(NvmeTest, AnAbsurdBlock) {
  start();
  EXPECT_EQ(run_io(io(READ, ~std::uint64_t{0}, 2)), Status::LbaOutOfRange);
}
TEST_F(NvmeTest, ATransferTooLarge) {
  start();
  EXPECT_EQ(run_io(io(READ, 0, 0x10000)), Status::InvalidField);
}
TEST_F(NvmeTest, DataOutsideRam) {
  start();
  EXPECT_EQ(run_io(io(READ, 0, 1, ram_bytes)), Status::DataTransferError);
  EXPECT_EQ(disk.requests, 0u);
}
TEST_F(NvmeTest, DataInItsOwnRegisters) {
  start();
  EXPECT_EQ(run_io(io(READ, 0, 1, registers)), Status::DataTransferError);
}
TEST_F(NvmeTest, AnotherNamespace) {
  start();
  Command command = io(READ, 0, 1);
  command.nsid = 2;
  EXPECT_EQ(run_io(command), Status::InvalidNamespace);
}
TEST_F(NvmeTest, AScatterGatherList) {
  start();
  Command command = io(READ, 0, 1);
  command.flags = 0x40;
  EXPECT_EQ(run_io(command), Status::InvalidField);
}
TEST_F(NvmeTest, ADiscardBeyondTheEnd) {
  start();
  ASSERT_TRUE(ram.write_value(GuestPhys{data_at + 4}, std::uint32_t{0xffffffff}));
  Command command = io(DATASET_MANAGEMENT, 0, 1);
  command.cdw11 = 4;
  EXPECT_EQ(run_io(command), Status::LbaOutOfRange);
}
TEST_F(NvmeTest, AReadOnlyDiskRefusesWrites) {
  disk.is_read_only = true;
  start();
  EXPECT_EQ(run_io(io(WRITE, 0, 1)), Status::ReadOnlyRange);
  EXPECT_EQ(run_io(io(nvme::WRITE_ZEROES, 0, 1)), Status::ReadOnlyRange);
}
TEST_F(NvmeTest, ADoorbellWithAnAbsurdTailIsIgnored) {
  start();
  write(DOORBELLS + 8, 0xffff);
  EXPECT_EQ(disk.requests, 0u);
  EXPECT_EQ(run_io(io(READ, 0, 1)), Status::Success);
}
TEST_F(NvmeTest, ADoorbellOfNoQueueIsIgnored) {
  start();
  write(DOORBELLS + 8 * 2, 1);
  write(DOORBELLS + 0xf00, 1);
  EXPECT_EQ(read(CSTS), CSTS_RDY);
}
TEST_F(NvmeTest, AHeadThatOvertakesTheTailIsIgnored) {
  start();
  write(DOORBELLS + 8 + 4, 5);
  EXPECT_EQ(run_io(io(READ, 0, 1)), Status::Success);
}
TEST_F(NvmeTest, AFullCompletionQueueHoldsCommandsBack) {
  start();
  unsigned answered = 0;
  for (unsigned i = 0; i < io_entries - 1; ++i) put(queue, io(READ, 0, 1));
  ring(queue);
  while (take(queue, false)) ++answered;
  ASSERT_EQ(answered, io_entries - 1);
  put(queue, io(READ, 0, 1));
  ring(queue);
  EXPECT_FALSE(take(queue, false).has_value());
  write(DOORBELLS + 8 + 4, queue.head);
  EXPECT_TRUE(take(queue).has_value());
}
TEST_F(NvmeTest, ASubmissionQueueOutsideRamIsAFatalStatus) {
  enable();
  ASSERT_EQ(run_admin(CREATE_CQ, 1 | 7 << 16, 3, io_cq).status, Status::Success);
  ASSERT_EQ(run_admin(CREATE_SQ, 1 | 7 << 16, 1 | 1 << 16, ram_bytes).status, Status::Success);
  write(DOORBELLS + 8, 1);
  EXPECT_EQ(read(CSTS) & CSTS_CFS, CSTS_CFS);
}
TEST_F(NvmeTest, ACompletionQueueOutsideRamIsAFatalStatus) {
  enable();
  ASSERT_EQ(run_admin(CREATE_CQ, 1 | 7 << 16, 3, ram_bytes).status, Status::Success);
  ASSERT_EQ(run_admin(CREATE_SQ, 1 | 7 << 16, 1 | 1 << 16, io_sq).status, Status::Success);
  put(queue, io(READ, 0, 1));
  ring(queue);
  EXPECT_EQ(read(CSTS) & CSTS_CFS, CSTS_CFS);
}
TEST_F(NvmeTest, AResetWithCommandsInHand) {
  disk.hold = true;
  start();
  put(queue, io(READ, 0, 1));
  ring(queue);
  write(CC, 0);
  EXPECT_TRUE(disk.held.empty());
  disk.hold = false;
  admin = {0, admin_sq, admin_cq, admin_entries};
  queue = {1, io_sq, io_cq, io_entries};
  for (std::uint64_t at = admin_cq; at < io_cq + 0x1000; at += 8) {
    if (at >= admin_cq + 0x1000 && at < io_cq) continue;
    ASSERT_TRUE(ram.write_value(GuestPhys{at}, std::uint64_t{0}));
  }
  start();
  EXPECT_EQ(run_io(io(READ, 0, 1)), Status::Success);
}
TEST_F(NvmeTest, RandomCommandsAreSurvived) {
  start();
  std::uint32_t seed = 1;
  const auto random = [&seed] { return seed = seed * 1664525 + 1013904223; };
  unsigned answered = 0;
  for (unsigned round = 0; round < 20000; ++round) {
    std::array<std::uint32_t, 16> words{};
    for (auto& word : words) word = random() >> (random() >> 27);
    words[0] = (words[0] & 0xffff'0000) | ((random() >> 8) % 12);
    words[1] = 1;
    ASSERT_TRUE(ram.write_value(GuestPhys{queue.sq + 64 * queue.tail}, words));
    queue.tail = (queue.tail + 1) % queue.entries;
    ring(queue);
    if (take(queue)) ++answered;
  }
  EXPECT_EQ(answered, 20000u);
}

// ---- Save, restore ------------------------------------------------------------------------------------------------

TEST_F(NvmeTest, ASavedStateComesBack) {
  start();
  ASSERT_EQ(run_io(io(READ, 0, 1)), Status::Success);
  machine::SnapshotWriter before;
  controller.save(before);
  write(CC, 0);
  machine::SnapshotReader in(before.data());
  controller.restore(in);
  ASSERT_TRUE(in.ok());
  machine::SnapshotWriter after;
  controller.save(after);
  EXPECT_EQ(after.data(), before.data());
  EXPECT_EQ(run_io(io(READ, 0, 1)), Status::Success);
}
TEST_F(NvmeTest, StoppedCommandsAreSavedAndBegunAgain) {
  start();
  disk.stuck = true;
  put(queue, io(WRITE, 5, 1));
  ring(queue);
  machine::SnapshotWriter out;
  controller.save(out);
  disk.stuck = false;
  disk.drop();
  machine::SnapshotReader in(out.data());
  controller.restore(in);
  ASSERT_TRUE(in.ok());
  EXPECT_EQ(disk.last.offset, 5u * 512);
  EXPECT_TRUE(take(queue).has_value());
}
TEST_F(NvmeTest, ACutStateIsRefused) {
  machine::SnapshotWriter out;
  controller.save(out);
  machine::SnapshotReader in(std::span(out.data()).first(out.data().size() - 1));
  controller.restore(in);
  EXPECT_FALSE(in.ok());
}

}  // namespace
}  // namespace veneer::devices
