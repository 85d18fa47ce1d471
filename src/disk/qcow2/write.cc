// Writing a qcow2 image: in place where a cluster is ours alone, else into newly allocated clusters.
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "disk/iov.h"
#include "disk/qcow2/qcow2_image.h"

namespace veneer::disk::qcow2 {
namespace {
/// Guest bytes that are allocated in one step at most: bounds what one error throws away.
constexpr std::uint64_t max_step_bytes = 16 * MiB;
}  // namespace

Result<void> Qcow2Image::check_range(std::uint64_t offset, std::uint64_t length) const {
  const std::uint64_t end = size();
  if (offset <= end && length <= end - offset) return {};
  return Error(fmt::format("{}: bytes {} to {} are beyond its end ({})", name_, offset, offset + length, end))
      .with_code(EINVAL);
}

Result<void> Qcow2Image::check_writable(std::uint64_t offset, std::uint64_t length) const {
  if (options_.read_only) return Error(fmt::format("{} is open read-only", name_)).with_code(EROFS);
  TRY_VOID(check_range(offset, length));
  const Lock lock(mutex_);
  if (broken_) return Error(fmt::format("{} takes no more writes: {}", name_, *broken_)).with_code(EIO);
  return {};
}

Result<void> Qcow2Image::write(std::uint64_t offset, std::span<const iovec> iov) {
  TRY_VOID(check_writable(offset, iov_length(iov)));
  TRY_VOID(write_unchecked(offset, iov));
  return options_.cache == CacheMode::Writethrough ? flush() : Result<void>();
}

Result<void> Qcow2Image::write_unchecked(std::uint64_t offset, std::span<const iovec> iov) {
  const std::uint64_t total = iov_length(iov);
  std::vector<iovec> part;
  for (std::uint64_t done = 0; done < total;) {
    TRY_VOID(commit_if_crowded());
    WritePlan plan;
    {
      Lock lock(mutex_);
      TRY(plan, plan_write(lock, offset + done, total - done));
    }
    std::span<const iovec> now = iov;
    if (plan.length != total) {
      iov_slice(iov, done, plan.length, part);
      now = part;
    }
    if (plan.in_place) {
      Result<void> written = file_->write(plan.host_offset, now);
      end_lease(plan.lease);
      if (!written) return written;
    } else {
      TRY_VOID(write_new(plan, offset + done, now));
    }
    done += plan.length;
  }
  return {};
}

bool Qcow2Image::in_flight(std::uint64_t first, std::uint64_t count) const {
  return std::any_of(allocating_.begin(), allocating_.end(), [=](const Range& range) {
    return range.first < first + count && first < range.first + range.count;
  });
}

/// True if the cluster (unallocated or zero) reads as zeros, whatever the backing file holds.
bool Qcow2Image::reads_as_zero(std::uint64_t entry, std::uint64_t offset) const {
  const Kind kind = kind_of(entry);
  if (kind == Kind::Zero) return true;
  return kind == Kind::Unallocated && align_down(offset, geometry_.cluster_size()) >= backing_size_;
}

/// The stretch at `offset` that can be overwritten where it stands, if there is one.
Result<bool> Qcow2Image::plan_in_place(Table& table, std::uint64_t offset, std::uint64_t length, WritePlan& plan) {
  const std::uint64_t in_cluster = geometry_.in_cluster(offset);
  std::uint64_t index = (offset >> geometry_.cluster_bits) % geometry_.l2_entries();
  const std::uint64_t first = entry_at(table, index);
  if (kind_of(first) != Kind::Data || !(first & ENTRY_COPIED)) return false;
  if ((l1_[offset / geometry_.l2_covers()] & ENTRY_COPIED) == 0) return false;
  const std::uint64_t host = first & ENTRY_OFFSET;
  if (geometry_.in_cluster(host) != 0) return corrupt(fmt::format("guest offset {:#x} leads to {:#x}", offset, host));
  plan.in_place = true;
  plan.host_offset = host + in_cluster;
  std::uint64_t clusters = 0;
  for (; index < geometry_.l2_entries() && (clusters << geometry_.cluster_bits) < length + in_cluster;
       ++index, ++clusters) {
    const std::uint64_t place = host + (clusters << geometry_.cluster_bits);
    const std::uint64_t entry = entry_at(table, index);
    if ((entry & (ENTRY_OFFSET | ENTRY_COPIED)) != (place | ENTRY_COPIED) || kind_of(entry) != Kind::Data) break;
    if (metadata_.contains(place >> geometry_.cluster_bits))
      return corrupt(fmt::format("guest offset {:#x} leads to metadata at {:#x}", offset, place));
  }
  plan.length = std::min(length, (clusters << geometry_.cluster_bits) - in_cluster);
  return true;
}

Result<Qcow2Image::WritePlan> Qcow2Image::plan_write(Lock& lock, std::uint64_t offset, std::uint64_t length) {
  for (;;) {
    WritePlan plan;
    const std::uint64_t l1_index = offset / geometry_.l2_covers();
    TRY(Table * table, l2_for_writing(l1_index));
    TRY(const bool in_place, plan_in_place(*table, offset, length, plan));
    if (in_place) {
      plan.lease = leases_.begin();
      return plan;
    }
    plan.first = offset >> geometry_.cluster_bits;
    if (in_flight(plan.first, 1)) {
      changed_.wait(lock);  // somebody else gives this cluster a place; then it can be overwritten there
      continue;
    }
    const std::uint64_t index = plan.first % geometry_.l2_entries();
    const std::uint64_t in_cluster = geometry_.in_cluster(offset);
    const std::uint64_t wanted =
        std::min(geometry_.clusters(in_cluster + std::min(length, max_step_bytes)), geometry_.l2_entries() - index);
    const std::uint64_t first_entry = entry_at(*table, index);
    const std::uint64_t kept = first_entry & ENTRY_OFFSET;
    plan.reuse = kind_of(first_entry) == Kind::Zero && kept != 0 && (first_entry & ENTRY_COPIED);
    if (plan.reuse && (geometry_.in_cluster(kept) != 0 || metadata_.contains(kept >> geometry_.cluster_bits)))
      return corrupt(fmt::format("guest offset {:#x} leads to {:#x}", offset, kept));
    // As many clusters in a row as need the same treatment.
    std::uint64_t count = 1;
    for (; count < wanted && !in_flight(plan.first + count, 1); ++count) {
      const std::uint64_t entry = entry_at(*table, index + count);
      const std::uint64_t place = entry & ENTRY_OFFSET;
      const bool zero_with_place = kind_of(entry) == Kind::Zero && place != 0 && (entry & ENTRY_COPIED);
      if (kind_of(entry) == Kind::Data && (entry & ENTRY_COPIED)) break;
      if (zero_with_place != plan.reuse) break;
      if (plan.reuse &&
          (place != kept + (count << geometry_.cluster_bits) || metadata_.contains(place >> geometry_.cluster_bits)))
        break;
    }
    if (plan.reuse) {
      plan.run = {kept >> geometry_.cluster_bits, count, false};
    } else {
      TRY(plan.run, refcounts_.allocate(count));
    }
    plan.length = std::min(length, (plan.run.count << geometry_.cluster_bits) - in_cluster);
    const std::uint64_t last = plan.first + plan.run.count - 1;
    plan.head_zero = reads_as_zero(first_entry, offset);
    plan.tail_zero = reads_as_zero(entry_at(*table, index + plan.run.count - 1), last << geometry_.cluster_bits);
    allocating_.push_back({plan.first, plan.run.count});
    return plan;
  }
}

/// Fills the new clusters, with what stood around the written bytes, then makes them the guest's.
Result<void> Qcow2Image::write_new(const WritePlan& plan, std::uint64_t offset, std::span<const iovec> iov) {
  const std::uint64_t begin = plan.first << geometry_.cluster_bits;
  const std::uint64_t end = (plan.first + plan.run.count) << geometry_.cluster_bits;
  const std::uint64_t head = offset - begin;
  const std::uint64_t tail = end - (offset + plan.length);
  // Fresh clusters are zeros already.
  const bool write_head = head != 0 && !(plan.head_zero && plan.run.fresh);
  const bool write_tail = tail != 0 && !(plan.tail_zero && plan.run.fresh);
  std::vector<std::byte> around((write_head ? head : 0) + (write_tail ? tail : 0));
  std::vector<iovec> whole;
  whole.reserve(iov.size() + 2);
  Result<void> result;
  if (write_head) {
    const iovec part{around.data(), head};
    if (!plan.head_zero) result = read_unchecked(begin, {&part, 1});
    whole.push_back(part);
  }
  for (const iovec& part : iov) whole.push_back(part);
  if (write_tail) {
    const iovec part{around.data() + (write_head ? head : 0), tail};
    if (!plan.tail_zero && result.ok()) result = read_unchecked(end - tail, {&part, 1});
    whole.push_back(part);
  }
  const std::uint64_t host = plan.run.first << geometry_.cluster_bits;
  if (result.ok()) result = file_->write(host + (write_head ? 0 : head), whole);
  const Lock lock(mutex_);
  if (result.ok()) result = link(plan);
  if (!result.ok() && !plan.reuse) refcounts_.give_back(plan.run);
  end_allocation(plan);
  return result;
}

/// The L2 entries now lead to the new clusters. In memory: commit() takes care that the disk follows in the right
/// order.
Result<void> Qcow2Image::link(const WritePlan& plan) {
  TRY(Table * table, l2_for_writing((plan.first << geometry_.cluster_bits) / geometry_.l2_covers()));
  const std::uint64_t index = plan.first % geometry_.l2_entries();
  for (std::uint64_t i = 0; i < plan.run.count; ++i) {
    const std::uint64_t old = entry_at(*table, index + i);
    set_entry(*table, index + i, ((plan.run.first + i) << geometry_.cluster_bits) | ENTRY_COPIED);
    if (!plan.reuse) drop_entry(old, false);
  }
  return {};
}

Result<void> Qcow2Image::preallocate() {
  TRY_VOID(check_writable(0, 0));
  const std::uint64_t end = align_up(size(), geometry_.cluster_size());
  TRY(std::uint64_t file_bytes, file_->size());
  for (std::uint64_t at = 0; at < end;) {
    TRY_VOID(commit_if_crowded());
    Lock lock(mutex_);
    TRY(const WritePlan plan, plan_write(lock, at, end - at));
    at += plan.length;
    if (plan.in_place) {
      leases_.end(plan.lease);
      continue;
    }
    Result<void> linked;
    if (!plan.reuse && !plan.run.fresh)
      linked = file_->write_zeroes(plan.run.first << geometry_.cluster_bits, plan.run.count << geometry_.cluster_bits,
                                   false);
    // Entries that lead beyond the end of the file count as damage elsewhere.
    if (const std::uint64_t run_end = (plan.run.first + plan.run.count) << geometry_.cluster_bits;
        linked.ok() && run_end > file_bytes) {
      linked = file_->truncate(run_end);
      file_bytes = run_end;
    }
    if (linked.ok()) linked = link(plan);
    if (!linked.ok() && !plan.reuse) refcounts_.give_back(plan.run);
    end_allocation(plan);
    TRY_VOID(std::move(linked));
  }
  return flush();
}

void Qcow2Image::end_allocation(const WritePlan& plan) {
  const auto found = std::find_if(allocating_.begin(), allocating_.end(),
                                  [&](const Range& range) { return range.first == plan.first; });
  *found = allocating_.back();
  allocating_.pop_back();
  changed_.notify_all();
}

}  // namespace veneer::disk::qcow2
