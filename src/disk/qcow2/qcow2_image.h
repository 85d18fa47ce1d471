// Qcow2Image: an open qcow2 image. docs/disk.md has the lock model and the order of writes; this is where they live.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "disk/host_file.h"
#include "disk/image.h"
#include "disk/qcow2/header.h"
#include "disk/qcow2/leases.h"
#include "disk/qcow2/refcounts.h"
#include "disk/qcow2/snapshot_table.h"
#include "disk/qcow2/table_cache.h"

namespace veneer::disk::qcow2 {

class Qcow2Image final : public Image {
 public:
  /// `backing`: the image that header.backing_file names, already open, or null. A dirty image that is opened for
  /// writing gets its refcounts rebuilt first (check.h).
  static Result<std::unique_ptr<Qcow2Image>> open(std::unique_ptr<HostFile> file, Header header,
                                                  const OpenOptions& options, std::unique_ptr<Image> backing);
  ~Qcow2Image() override;

  Format format() const override { return Format::Qcow2; }
  const std::string& name() const override { return name_; }
  bool read_only() const override { return options_.read_only; }
  std::uint64_t size() const override { return size_.load(std::memory_order_relaxed); }
  Limits limits() const override;
  Result<void> read(std::uint64_t offset, std::span<const iovec> iov) override;
  Result<void> write(std::uint64_t offset, std::span<const iovec> iov) override;
  Result<void> flush() override;
  Result<void> discard(std::uint64_t offset, std::uint64_t length) override;
  Result<void> write_zeroes(std::uint64_t offset, std::uint64_t length, ZeroMode mode) override;
  Result<void> resize(std::uint64_t new_size, bool allow_shrink) override;
  Result<Status> status(std::uint64_t offset, std::uint64_t length) override;
  Image* backing() override { return backing_.get(); }
  Result<void> close() override;
  const Header& header() const { return header_; }
  /// There is, or will be, something below that must not shine through where zeros are written.
  bool has_backing() const { return backing_size_ != 0 || expect_backing_; }
  void expect_backing() { expect_backing_ = true; }
  /// Writes one whole cluster (or the image's last, shorter piece) compressed; true. False: it does not shrink, nothing
  /// was written. The cluster must be unallocated. For conversions.
  Result<bool> write_compressed(std::uint64_t offset, std::span<const std::byte> cluster);

  /// Gives every unallocated cluster a place, without writing data. Alone.
  Result<void> preallocate();

  // The following are for tools: alone, nothing else may run.

  /// Changes the name of the backing file in the header, nothing else; no name: none. The open backing image stays.
  Result<void> set_backing_name(std::optional<std::string> file, const std::string& format);
  /// Frees every cluster: the image shows its backing file again. For commit.
  Result<void> make_empty();
  const std::vector<Snapshot>& snapshots() const { return snapshots_; }
  Result<void> create_snapshot(const std::string& snapshot_name);
  Result<void> apply_snapshot(const std::string& id_or_name);
  Result<void> delete_snapshot(const std::string& id_or_name);

 protected:
  bool map_extents(std::uint64_t offset, std::uint64_t length, bool for_write, std::vector<HostExtent>& extents,
                   std::uint64_t& lease) override;
  void end_lease(std::uint64_t lease) override;

 private:
  using Lock = std::unique_lock<std::mutex>;
  using Table = TableCache::Table;

  enum class Kind : std::uint8_t { Unallocated, Zero, Data, Compressed };
  /// A stretch of guest bytes that is stored in one way, in one place.
  struct Piece {
    Kind kind = Kind::Unallocated;
    std::uint64_t length = 0;
    std::uint64_t host_offset = 0;  ///< of the first byte (Data)
    std::uint64_t entry = 0;        ///< of the cluster (Compressed)
  };
  /// What one step of a write has to do.
  struct WritePlan {
    bool in_place = false;
    std::uint64_t length = 0;       ///< guest bytes of this step
    std::uint64_t host_offset = 0;  ///< in place: of the first byte
    std::uint64_t lease = 0;        ///< in place
    std::uint64_t first = 0;        ///< else: guest clusters [first, first + run.count) get the host clusters of run
    Refcounts::Run run;
    bool reuse = false;                         ///< run is what zero clusters had kept allocated
    bool head_zero = false, tail_zero = false;  ///< what the first and last cluster hold is zeros
  };
  struct Range {
    std::uint64_t first, count;  ///< guest clusters
  };
  /// Host clusters that nothing in memory refers to any more.
  struct Dropped {
    std::uint64_t first, count;
    bool punch;  ///< the guest discarded them: give the space back to the host
    bool table;  ///< one L2 table, not data
  };

  Qcow2Image(std::unique_ptr<HostFile> file, Header header, const OpenOptions& options, std::unique_ptr<Image> backing);
  Result<void> load();
  Result<void> register_metadata();
  Result<void> clear_autoclear();

  // entries.cc: tables. All with the lock held.
  std::uint64_t entry_at(const Table& table, std::uint64_t index) const;
  std::uint64_t subclusters_at(const Table& table, std::uint64_t index) const;
  void set_entry(Table& table, std::uint64_t index, std::uint64_t entry);
  Result<Table*> l2_for_reading(std::uint64_t l1_index);
  Result<Table*> l2_for_writing(std::uint64_t l1_index);
  Kind kind_of(std::uint64_t entry) const;
  /// The stretch at `offset`, at most `length`, within one L2 table. `cached_only`: nothing if the table is not in
  /// memory.
  Result<std::optional<Piece>> look_up(std::uint64_t offset, std::uint64_t length, bool cached_only);
  void subcluster_piece(const Table& table, std::uint64_t index, std::uint64_t offset, Piece& piece) const;
  void drop_table(std::uint64_t host_cluster);
  void drop_entry(std::uint64_t entry, bool punch);
  Error corrupt(std::string what);

  // read.cc
  Result<void> read_unchecked(std::uint64_t offset, std::span<const iovec> iov);
  Result<void> read_backing(std::uint64_t offset, std::span<const iovec> iov);
  Result<void> read_compressed(std::uint64_t entry, std::uint64_t in_cluster, std::span<const iovec> iov);

  // write.cc
  Result<void> check_range(std::uint64_t offset, std::uint64_t length) const;
  Result<void> check_writable(std::uint64_t offset, std::uint64_t length) const;
  Result<void> write_unchecked(std::uint64_t offset, std::span<const iovec> iov);
  Result<WritePlan> plan_write(Lock& lock, std::uint64_t offset, std::uint64_t length);
  Result<bool> plan_in_place(Table& table, std::uint64_t offset, std::uint64_t length, WritePlan& plan);
  Result<void> write_new(const WritePlan& plan, std::uint64_t offset, std::span<const iovec> iov);
  Result<void> link(const WritePlan& plan);
  bool in_flight(std::uint64_t first, std::uint64_t count) const;
  bool reads_as_zero(std::uint64_t entry, std::uint64_t offset) const;
  void end_allocation(const WritePlan& plan);

  // zero.cc
  Result<void> zero_bytes(std::uint64_t offset, std::uint64_t length);
  Result<void> zero_clusters(std::uint64_t first, std::uint64_t count, ZeroMode mode, bool discarding);
  std::uint64_t zeroed_entry(std::uint64_t entry, ZeroMode mode, bool discarding);

  // commit.cc
  Result<void> commit();
  Result<void> commit_tables();
  Result<void> sync_file();
  Result<void> release_dropped();
  Result<void> commit_if_crowded();

  // write.cc: clusters packed one behind the other
  Result<std::uint64_t> allocate_packed(std::uint64_t bytes);

  // resize.cc
  Result<void> grow_l1(std::uint64_t entries);
  Result<void> write_size(std::uint64_t bytes);

  // snapshots.cc
  Result<std::size_t> find_snapshot(const std::string& id_or_name) const;
  Result<void> count_references(std::uint64_t l1_offset, std::uint64_t l1_entries, int delta);
  Result<void> refresh_copied();
  Result<void> write_snapshots(std::vector<Snapshot> snapshots);
  Result<std::vector<std::uint64_t>> read_l1(std::uint64_t offset, std::uint64_t entries);
  Result<void> write_l1(std::uint64_t offset, const std::vector<std::uint64_t>& entries);
  Result<void> set_dirty(bool dirty);
  Result<void> switch_l1(std::uint64_t offset, std::uint64_t entries, std::uint64_t size_bytes);
  void free_clusters(std::uint64_t offset, std::uint64_t bytes);

  std::unique_ptr<HostFile> file_;
  const std::string name_;
  const OpenOptions options_;
  std::unique_ptr<Image> backing_;  /// Unallocated clusters below this offset do not read as zeros by themselves. All
                                    /// of them if the header names a backing
  /// file that was not opened (open_alone).
  std::uint64_t backing_size_ = 0;
  bool expect_backing_ = false;
  std::atomic<std::uint64_t> size_;  ///< header_.size_bytes, without the lock
  bool closed_ = false;

  /// Guards everything below, but for what says otherwise. Never held during data transfers or syncs.
  mutable std::mutex mutex_;
  std::condition_variable changed_;  ///< an allocation has ended
  Header header_;
  Geometry geometry_;  ///< constant
  MetadataClusters metadata_;
  Refcounts refcounts_;
  TableCache l2_;
  std::vector<std::uint64_t> l1_;
  std::vector<std::uint64_t> l1_dirty_;  ///< indexes; may repeat
  std::vector<Range> allocating_;        ///< guest clusters whose new place is being filled
  Leases leases_;
  std::vector<Dropped> dropped_;                             ///< memory no longer refers to them, the disk may
  std::vector<std::pair<std::uint64_t, Dropped>> draining_;  ///< the disk does not either; transfers may (by epoch)
  std::vector<Snapshot> snapshots_;
  std::optional<std::string> broken_;  ///< a sync failed: what is on the disk is unknown, nothing is written any more

  std::mutex commit_mutex_;                             ///< one commit at a time; taken before mutex_
  std::uint64_t commits_begun_ = 0, commits_done_ = 0;  ///< for flushes that wait for one another; under mutex_

  /// The last cluster that was decompressed: small sequential reads would otherwise decompress it again and again.
  std::mutex decompressed_mutex_;  ///< taken alone
  std::uint64_t decompressed_entry_ = 0;
  std::vector<std::byte> decompressed_;

  std::uint64_t packed_at_ = 0;  ///< write_compressed: next free byte of the cluster being filled, or 0
};

}  // namespace veneer::disk::qcow2
