// An NVM Express controller with one namespace: a disk.
//
// State: controller registers, queues, features, asynchronous event requests, commands in hand; PCI configuration
// space. Missing: SGLs, metadata, compare, reservations, namespace management, firmware download, controller memory
// buffer, weighted arbitration. Interrupt coalescing is stored without effect. Differs from the spec: an Abort never
// aborts. Spec: NVM Express Base Specification 1.4.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <list>
#include <span>
#include <vector>

#include "devices/nvme/nvme_defs.h"
#include "devices/pci/pci_function.h"
#include "disk/io/backend.h"
#include "machine/device.h"
#include "machine/dma.h"
#include "machine/dma_space.h"
#include "machine/register_window.h"

namespace veneer::devices {

/// BAR 0 has registers and doorbells, BAR 4 the MSI-X table.
class NvmeController final : public PciFunction {
 public:
  static constexpr unsigned io_queues_max = 64;

  /// `io_queues`: pairs that the driver may have, 1 to io_queues_max. `disk` outlives it.
  NvmeController(std::string name, const machine::DmaSpace& memory, disk::Backend& disk, unsigned io_queues);

  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 private:
  using Status = nvme::Status;
  using Command = nvme::Command;

  std::uint64_t read_registers(std::uint64_t offset, unsigned size_bytes);
  void write_registers(std::uint64_t offset, unsigned size_bytes, std::uint64_t value);

  struct SubmissionQueue {
    std::uint64_t base = 0;
    std::uint32_t size = 0;  // 0: there is none
    std::uint32_t head = 0, tail = 0;
    std::uint16_t completion_queue = 0;
  };
  struct CompletionQueue {
    std::uint64_t base = 0;
    std::uint32_t size = 0;
    std::uint32_t head = 0, tail = 0;
    std::uint16_t vector = 0;
    bool phase = true;
    bool interrupts = false;
    std::uint32_t promised = 0;  // entries that commands in hand will take
    std::uint32_t used() const { return (tail + size - head) % size; }
    bool room() const { return used() + promised + 1 < size; }
  };

  /// A command on its way through the disk.
  struct Active {
    std::uint16_t queue = 0;
    Command command{};
    machine::DmaBuffers data;
    unsigned parts = 1;  // requests that are not done
    Status status = Status::Success;
  };
  using ActiveIt = std::list<Active>::iterator;

  // nvme.cc: registers, queues, completions
  std::uint64_t register_dword(std::uint64_t offset) const;
  void write_dword(std::uint64_t offset, std::uint32_t value);
  void write_cc(std::uint32_t value);
  void enable();
  void disable();
  void shut_down();
  void ring_doorbell(std::uint32_t index, std::uint32_t value);
  void run_queue(std::uint16_t id);
  void run_queues_of(std::uint16_t completion_queue);
  void run(std::uint16_t queue, const Command& command);
  void complete(std::uint16_t queue, std::uint16_t command_id, Status status, std::uint32_t result = 0);
  void post(std::uint16_t queue, std::uint16_t command_id, Status status, std::uint32_t result);
  void raise(CompletionQueue& queue);
  void update_pin();
  void add_event(std::uint32_t event);
  void post_events();
  SubmissionQueue* submission_queue(std::uint32_t id);
  CompletionQueue* completion_queue(std::uint32_t id);
  void fail_controller(const char* why);

  // nvme_admin.cc
  void run_admin(const Command& command);
  Status create_completion_queue(const Command& command);
  Status create_submission_queue(const Command& command);
  Status delete_completion_queue(const Command& command);
  Status delete_submission_queue(const Command& command);
  Status identify(const Command& command);
  Status get_log_page(const Command& command);
  Status set_features(const Command& command, std::uint32_t& result);
  Status get_features(const Command& command, std::uint32_t& result);
  Status send(const Command& command, std::span<const std::byte> data);

  // nvme_io.cc
  void run_io(std::uint16_t queue, const Command& command);
  Status begin_transfer(std::uint16_t queue, const Command& command);
  Status begin_write_zeroes(std::uint16_t queue, const Command& command);
  Status begin_dataset_management(std::uint16_t queue, const Command& command);
  void begin_flush(std::uint16_t queue, const Command& command);
  ActiveIt keep(std::uint16_t queue, const Command& command);
  void hand_over(ActiveIt active, disk::IoRequest request);
  void finished(ActiveIt active, disk::IoKind kind, disk::IoStatus status);
  Status check_range(std::uint64_t block, std::uint64_t blocks) const;
  bool writes_are_stable(const Command& command) const;

  machine::DmaSpace memory_;
  disk::Backend& disk_;
  const unsigned io_queues_;
  machine::RegisterWindow<NvmeController> registers_{*this, &NvmeController::read_registers,
                                                     &NvmeController::write_registers};

  std::uint32_t cc_ = 0, csts_ = 0, aqa_ = 0, masked_ = 0;
  std::uint64_t asq_ = 0, acq_ = 0;
  std::vector<SubmissionQueue> submission_;  // by id; 0 is the admin queue
  std::vector<CompletionQueue> completion_;
  std::array<std::uint32_t, nvme::feature_count> features_{};
  std::vector<std::uint16_t> event_requests_;  // ids of waiting commands
  std::deque<std::uint32_t> events_;           // that nobody has asked for yet
  std::list<Active> active_;
};

}  // namespace veneer::devices
