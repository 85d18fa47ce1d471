// liburing, wrapped.
#include "disk/io/uring.h"

#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>

#include "base/assert.h"

namespace veneer::disk {
namespace {

/// io_uring_register(2): Debian 12's liburing declares the functions for these two and does not export them.
int register_with(const io_uring& ring, unsigned operation, void* argument, std::size_t count) {
  return ::syscall(SYS_io_uring_register, ring.ring_fd, operation, argument, count) < 0 ? errno : 0;
}

}  // namespace

Result<std::unique_ptr<Uring>> Uring::create(unsigned entries) {
  std::unique_ptr<Uring> uring(new Uring);
  uring->event_fd_ = Fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!uring->event_fd_.valid()) return Error::from_errno("eventfd", errno);
  if (const int error = io_uring_queue_init(entries, &uring->ring_, IORING_SETUP_R_DISABLED); error < 0)
    return Error::from_errno("io_uring", -error);
  uring->made_ = true;
  uring->entries_ = entries;
  if (const int error = io_uring_register_eventfd(&uring->ring_, uring->event_fd_.get()); error < 0)
    return Error::from_errno("io_uring's event descriptor", -error);
  // What goes through a ring is not seen by the sandbox's system call filter: only these two may (docs/security.md).
  std::array<io_uring_restriction, 2> allowed{};
  allowed[0].opcode = allowed[1].opcode = IORING_RESTRICTION_SQE_OP;
  allowed[0].sqe_op = IORING_OP_READV;
  allowed[1].sqe_op = IORING_OP_WRITEV;
  if (const int error = register_with(uring->ring_, IORING_REGISTER_RESTRICTIONS, allowed.data(), allowed.size()))
    return Error::from_errno("restricting io_uring", error);
  if (const int error = register_with(uring->ring_, IORING_REGISTER_ENABLE_RINGS, nullptr, 0))
    return Error::from_errno("enabling io_uring", error);
  return uring;
}

Uring::~Uring() {
  if (made_) io_uring_queue_exit(&ring_);
}

bool Uring::prepare(Transfer transfer, int fd, std::uint64_t offset, std::span<const iovec> buffers, void* tag) {
  if (on_its_way_ + prepared_ >= entries_) return false;
  io_uring_sqe* entry = io_uring_get_sqe(&ring_);
  if (!entry) return false;
  const auto count = static_cast<unsigned>(buffers.size());
  if (transfer == Transfer::Read)
    io_uring_prep_readv(entry, fd, buffers.data(), count, offset);
  else
    io_uring_prep_writev(entry, fd, buffers.data(), count, offset);
  io_uring_sqe_set_data(entry, tag);
  ++prepared_;
  return true;
}

void Uring::submit() {
  if (prepared_ == 0) return;
  // What finishes in the system call needs no event: the caller reaps after it, and so finds too what came between.
  io_uring_cq_eventfd_toggle(&ring_, false);
  while (prepared_ > 0) {
    const int taken = io_uring_submit(&ring_);
    if (taken == -EINTR || taken == -EAGAIN || taken == -EBUSY) continue;  // short of memory: it frees some
    VENEER_ASSERT(taken > 0);
    on_its_way_ += static_cast<unsigned>(taken);
    prepared_ -= static_cast<unsigned>(taken);
  }
  io_uring_cq_eventfd_toggle(&ring_, true);
  std::atomic_thread_fence(std::memory_order_seq_cst);  // the switch, then the caller's look
}

bool Uring::reap(void*& tag, int& result) {
  io_uring_cqe* entry = nullptr;
  if (io_uring_peek_cqe(&ring_, &entry) != 0 || !entry) return false;
  tag = io_uring_cqe_get_data(entry);
  result = entry->res;
  io_uring_cqe_seen(&ring_, entry);
  --on_its_way_;
  return true;
}

void Uring::wait() {
  io_uring_cqe* entry = nullptr;
  while (io_uring_wait_cqe(&ring_, &entry) == -EINTR) {
  }
}

void Uring::clear_event() {
  std::uint64_t count = 0;
  [[maybe_unused]] const auto got = ::read(event_fd_.get(), &count, sizeof count);
}

}  // namespace veneer::disk
