// The controller's registers, its queues, and how commands come and go.
#include "devices/nvme/nvme.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/log.h"

namespace veneer::devices {

using namespace nvme;

namespace {

constexpr PciIdentity identity{0x1234, 0x4e56, 1, 0x010802, 0x1234, 0x4e56, 1};  // class: NVM Express
constexpr std::uint64_t registers_bytes = 0x2000;
constexpr std::size_t events_kept_max = 8;

LogLimiter& complaints() {
  static LogLimiter limiter;
  return limiter;
}

}  // namespace

NvmeController::NvmeController(std::string name, const machine::DmaSpace& memory, disk::Backend& disk,
                               unsigned io_queues)
    : PciFunction(std::move(name), identity), memory_(memory), disk_(disk), io_queues_(io_queues) {
  VENEER_ASSERT(io_queues >= 1 && io_queues <= io_queues_max);
  static_assert(DOORBELLS + 8 * (io_queues_max + 1) <= registers_bytes);
  submission_.resize(io_queues + 1);
  completion_.resize(io_queues + 1);
  add_bar(0, BarKind::Memory64, registers_bytes, registers_);
  add_msix(io_queues + 1, 4);
  disk_.set_resize_listener([this] { add_event(EVENT_NAMESPACE_CHANGED); });
  NvmeController::reset();
}

// ---- Registers ----------------------------------------------------------------------------------------------------

std::uint64_t NvmeController::read_registers(std::uint64_t offset, unsigned size_bytes) {
  if (offset % size_bytes != 0) return 0;
  const std::uint64_t dword = register_dword(offset & ~std::uint64_t{3});
  if (size_bytes == 8) return dword | register_dword(offset + 4) << 32;
  return (dword >> (8 * (offset % 4))) & byte_mask(size_bytes);
}

void NvmeController::write_registers(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) {
  if (size_bytes < 4 || offset % size_bytes != 0) return;
  write_dword(offset, static_cast<std::uint32_t>(value));
  if (size_bytes == 8) write_dword(offset + 4, static_cast<std::uint32_t>(value >> 32));
}

std::uint64_t NvmeController::register_dword(std::uint64_t offset) const {
  switch (offset) {
    case CAP:
      return CAP_VALUE & 0xffff'ffff;
    case CAP + 4:
      return CAP_VALUE >> 32;
    case VS:
      return VS_VALUE;
    case INTMS:
    case INTMC:
      return masked_;
    case CC:
      return cc_;
    case CSTS:
      return csts_;
    case AQA:
      return aqa_;
    case ASQ:
      return asq_ & 0xffff'ffff;
    case ASQ + 4:
      return asq_ >> 32;
    case ACQ:
      return acq_ & 0xffff'ffff;
    case ACQ + 4:
      return acq_ >> 32;
    default:
      return 0;
  }
}

void NvmeController::write_dword(std::uint64_t offset, std::uint32_t value) {
  const auto put = [&](std::uint64_t& field, bool high) {
    if (cc_ & CC_EN::mask) return;  // 3.1.8: to be set up before
    field = high ? (field & 0xffff'ffff) | (std::uint64_t{value} << 32) : (field & ~std::uint64_t{0xffff'ffff}) | value;
    field &= ~(page_bytes - 1);
  };
  switch (offset) {
    case INTMS:
      masked_ |= value;
      return update_pin();
    case INTMC:
      masked_ &= ~value;
      return update_pin();
    case CC:
      return write_cc(value);
    case AQA:
      if (!(cc_ & CC_EN::mask)) aqa_ = value & 0x0fff'0fff;
      return;
    case ASQ:
    case ASQ + 4:
      return put(asq_, offset != ASQ);
    case ACQ:
    case ACQ + 4:
      return put(acq_, offset != ACQ);
    default:
      if (offset >= DOORBELLS) ring_doorbell(static_cast<std::uint32_t>((offset - DOORBELLS) / 4), value);
  }
}

void NvmeController::write_cc(std::uint32_t value) {
  const std::uint32_t before = std::exchange(cc_, value);
  if ((value & CC_EN::mask) && !(before & CC_EN::mask)) enable();
  if (!(value & CC_EN::mask) && (before & CC_EN::mask)) disable();
  if (CC_SHN::get(value) != 0 && CC_SHN::get(before) == 0) shut_down();
  if (CC_SHN::get(value) == 0) csts_ &= ~static_cast<std::uint32_t>(CSTS_SHST::mask);
}

void NvmeController::fail_controller(const char* why) {
  log_guest(complaints(), "{}: {}", name(), why);
  csts_ |= CSTS_CFS;
}

/// 7.6.1. A setup that makes no sense is a fatal status, which only a reset clears.
void NvmeController::enable() {
  const std::uint32_t submission_entries = (aqa_ & 0xfff) + 1, completion_entries = (aqa_ >> 16) + 1;
  if (CC_MPS::get(cc_) != 0) return fail_controller("a memory page size other than 4 KiB");
  if (CC_CSS::get(cc_) != 0) return fail_controller("a command set other than NVM");
  if (submission_entries < 2 || completion_entries < 2) return fail_controller("an admin queue of one entry");
  submission_[0] = {.base = asq_, .size = submission_entries};
  completion_[0] = {.base = acq_, .size = completion_entries, .interrupts = true};
  csts_ |= CSTS_RDY;
}

/// A controller reset (7.3.2): all but the admin queue's registers goes.
void NvmeController::disable() {
  std::fill(submission_.begin(), submission_.end(), SubmissionQueue{});  // completions find no queue
  std::fill(completion_.begin(), completion_.end(), CompletionQueue{});
  disk_.cancel();
  event_requests_.clear();
  events_.clear();
  features_ = {};
  features_[VOLATILE_WRITE_CACHE] = disk_.write_cache() ? 1 : 0;
  features_[TEMPERATURE_THRESHOLD] = 343;  // kelvins
  csts_ = 0;
  masked_ = 0;
  update_pin();
}

/// 7.6.2: what was written is stable when SHST says "complete".
void NvmeController::shut_down() {
  csts_ = static_cast<std::uint32_t>(CSTS_SHST::set(csts_, SHST_OCCURRING));
  disk_.submit({.kind = disk::IoKind::Flush, .done = [this](disk::IoStatus) {
                  if (CSTS_SHST::get(csts_) == SHST_OCCURRING)
                    csts_ = static_cast<std::uint32_t>(CSTS_SHST::set(csts_, SHST_COMPLETE));
                }});
  disk_.start();
}

// ---- Queues -------------------------------------------------------------------------------------------------------

NvmeController::SubmissionQueue* NvmeController::submission_queue(std::uint32_t id) {
  return id < submission_.size() && submission_[id].size != 0 ? &submission_[id] : nullptr;
}

NvmeController::CompletionQueue* NvmeController::completion_queue(std::uint32_t id) {
  return id < completion_.size() && completion_[id].size != 0 ? &completion_[id] : nullptr;
}

/// Even doorbells are tails of submission queues, odd ones heads of completion queues (3.1.24, 3.1.25).
void NvmeController::ring_doorbell(std::uint32_t index, std::uint32_t value) {
  if (!(csts_ & CSTS_RDY) || (csts_ & CSTS_CFS)) return;
  const auto id = static_cast<std::uint16_t>(index / 2);
  if (index % 2 == 0) {
    SubmissionQueue* queue = submission_queue(id);
    if (!queue) return add_event(EVENT_INVALID_DOORBELL);
    if (value >= queue->size) return add_event(EVENT_INVALID_DOORBELL_VALUE);
    queue->tail = value;
    run_queue(id);
    return disk_.start();
  }
  CompletionQueue* queue = completion_queue(id);
  if (!queue) return add_event(EVENT_INVALID_DOORBELL);
  const std::uint32_t consumed = (value + queue->size - queue->head) % queue->size;
  if (value >= queue->size || consumed > queue->used()) return add_event(EVENT_INVALID_DOORBELL_VALUE);
  queue->head = value;
  update_pin();
  if (id == 0) post_events();
  run_queues_of(id);
}

/// Room in a completion queue lets the queues go on that wait for it.
void NvmeController::run_queues_of(std::uint16_t completion_queue) {
  for (std::uint16_t id = 0; id < submission_.size(); ++id)
    if (submission_[id].size != 0 && submission_[id].completion_queue == completion_queue) run_queue(id);
  disk_.start();
}

/// Takes commands as long as there will be room for their completions: so a guest cannot make us hold more of them than
/// it has room for.
void NvmeController::run_queue(std::uint16_t id) {
  while (bus_master() && !(csts_ & CSTS_CFS)) {
    SubmissionQueue* queue = submission_queue(id);
    if (!queue || queue->head == queue->tail) return;
    CompletionQueue* answers = completion_queue(queue->completion_queue);
    if (!answers || !answers->room()) return;
    Command command{};
    if (!memory_.read_value(GuestPhys{queue->base + queue->head * sizeof command}, command))
      return fail_controller("a submission queue outside RAM");
    queue->head = (queue->head + 1) % queue->size;
    ++answers->promised;
    run(id, command);
  }
}

void NvmeController::run(std::uint16_t queue, const Command& command) {
  // FUSE and PSDT: fused commands and SGLs are not supported.
  if (command.flags & 0xc3) return complete(queue, command.id, Status::InvalidField);
  if (queue == 0)
    run_admin(command);
  else
    run_io(queue, command);
}

/// Ends a command that was taken from its queue: keeps the promise that run_queue() made.
void NvmeController::complete(std::uint16_t queue, std::uint16_t command_id, Status status, std::uint32_t result) {
  const SubmissionQueue* from = submission_queue(queue);
  if (!from) return;
  CompletionQueue* answers = completion_queue(from->completion_queue);
  if (!answers) return;
  --answers->promised;
  post(queue, command_id, status, result);
}

void NvmeController::post(std::uint16_t queue, std::uint16_t command_id, Status status, std::uint32_t result) {
  const SubmissionQueue& from = submission_[queue];
  CompletionQueue& answers = completion_[from.completion_queue];
  const GuestPhys at{answers.base + answers.tail * sizeof(Completion)};
  const auto status_field = static_cast<std::uint16_t>((static_cast<unsigned>(status) << 1) | (answers.phase ? 1 : 0));
  const Completion entry{result, 0, static_cast<std::uint16_t>(from.head), queue, command_id, status_field};
  // The dword with the phase bit last: the driver may be polling it.
  constexpr std::size_t first = sizeof entry - 4;
  const auto bytes = std::as_bytes(std::span(&entry, 1));
  if (!memory_.write(at, bytes.first(first))) return fail_controller("a completion queue outside RAM");
  std::atomic_thread_fence(std::memory_order_release);
  if (!memory_.write(at + first, bytes.subspan(first))) return fail_controller("a completion queue outside RAM");
  answers.tail = (answers.tail + 1) % answers.size;
  if (answers.tail == 0) answers.phase = !answers.phase;
  raise(answers);
}

void NvmeController::raise(CompletionQueue& queue) {
  if (!queue.interrupts) return;
  if (msix_enabled())
    signal_msix(queue.vector);
  else
    update_pin();
}

/// The pin is high while a queue with interrupts has entries that the driver has not consumed (7.5.1).
void NvmeController::update_pin() {
  const bool waiting = std::any_of(completion_.begin(), completion_.end(), [this](const CompletionQueue& queue) {
    return queue.size != 0 && queue.interrupts && queue.used() != 0 &&
           (queue.vector >= 32 || !(masked_ & bit(queue.vector)));
  });
  set_intx(waiting);
}

// ---- Asynchronous events (5.2) ------------------------------------------------------------------------------------

void NvmeController::add_event(std::uint32_t event) {
  if (event == EVENT_NAMESPACE_CHANGED && !(features_[ASYNC_EVENT_CONFIGURATION] & bit(ASYNC_NAMESPACE_NOTICES)))
    return;
  if (!(csts_ & CSTS_RDY) || std::find(events_.begin(), events_.end(), event) != events_.end()) return;
  if (events_.size() < events_kept_max) events_.push_back(event);
  post_events();
}

void NvmeController::post_events() {
  while (!events_.empty() && !event_requests_.empty() && completion_[0].size != 0 && completion_[0].room()) {
    const std::uint16_t id = event_requests_.front();
    event_requests_.erase(event_requests_.begin());
    post(0, id, Status::Success, events_.front());
    events_.pop_front();
  }
}

// ---- Reset, save --------------------------------------------------------------------------------------------------

void NvmeController::reset() {
  disable();
  cc_ = aqa_ = 0;
  asq_ = acq_ = 0;
  PciFunction::reset();
}

void NvmeController::save(machine::SnapshotWriter& out) const {
  disk_.settle();
  PciFunction::save(out);
  out.put(cc_);
  out.put(csts_);
  out.put(aqa_);
  out.put(masked_);
  out.put(asq_);
  out.put(acq_);
  for (const SubmissionQueue& queue : submission_) {
    out.put(queue.base);
    out.put(queue.size);
    out.put(queue.head);
    out.put(queue.tail);
    out.put(queue.completion_queue);
  }
  for (const CompletionQueue& queue : completion_) {
    out.put(queue.base);
    out.put(queue.size);
    out.put(queue.head);
    out.put(queue.tail);
    out.put(queue.vector);
    out.put(static_cast<std::uint8_t>(queue.phase));
    out.put(static_cast<std::uint8_t>(queue.interrupts));
    out.put(queue.promised);
  }
  out.put(features_);
  out.put(static_cast<std::uint32_t>(event_requests_.size()));
  for (const std::uint16_t id : event_requests_) out.put(id);
  out.put(static_cast<std::uint32_t>(events_.size()));
  for (const std::uint32_t event : events_) out.put(event);
  out.put(static_cast<std::uint32_t>(active_.size()));
  for (const Active& active : active_) {  // what a host error has stopped
    out.put(active.queue);
    out.put(active.command);
  }
}

void NvmeController::restore(machine::SnapshotReader& in) {
  disable();
  PciFunction::restore(in);
  in.get(cc_);
  in.get(csts_);
  in.get(aqa_);
  in.get(masked_);
  in.get(asq_);
  in.get(acq_);
  for (SubmissionQueue& queue : submission_) {
    in.get(queue.base);
    in.get(queue.size);
    in.get(queue.head);
    in.get(queue.tail);
    in.get(queue.completion_queue);
    if (queue.size != 0 && (queue.size > queue_entries_max * 4 || queue.head >= queue.size ||
                            queue.tail >= queue.size || queue.completion_queue >= completion_.size()))
      in.fail();
  }
  for (CompletionQueue& queue : completion_) {
    in.get(queue.base);
    in.get(queue.size);
    in.get(queue.head);
    in.get(queue.tail);
    in.get(queue.vector);
    queue.phase = in.get<std::uint8_t>() != 0;
    queue.interrupts = in.get<std::uint8_t>() != 0;
    in.get(queue.promised);
    if (queue.size != 0 && (queue.size > queue_entries_max * 4 || queue.head >= queue.size || queue.tail >= queue.size))
      in.fail();
  }
  in.get(features_);
  event_requests_.resize(std::min<std::uint32_t>(in.get<std::uint32_t>(), async_events_max));
  for (std::uint16_t& id : event_requests_) in.get(id);
  events_.resize(std::min<std::uint32_t>(in.get<std::uint32_t>(), events_kept_max));
  for (std::uint32_t& event : events_) in.get(event);
  const auto stopped = in.get<std::uint32_t>();
  if (stopped > queue_entries_max * submission_.size()) in.fail();
  std::vector<std::pair<std::uint16_t, Command>> commands(in.ok() ? stopped : 0);
  for (auto& [queue, command] : commands) {
    in.get(queue);
    in.get(command);
  }
  if (!in.ok()) return disable();
  update_pin();
  for (const auto& [queue, command] : commands)
    if (queue != 0 && submission_queue(queue)) run_io(queue, command);
  disk_.start();
}

}  // namespace veneer::devices
