// Making the overlay and removing its name.
#include "vm/disk_snapshot.h"

#include <fmt/format.h>
#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "disk/host_file.h"
#include "disk/qcow2/create.h"

namespace veneer::vm {
namespace {

/// A folder of our own, because files in TMPDIR are for all to see; removed with what is in it.
class PrivateFolder {
 public:
  static Result<PrivateFolder> create() {
    const char* const parent = ::getenv("TMPDIR");
    std::string path = fmt::format("{}/veneer-XXXXXX", parent != nullptr && *parent != 0 ? parent : "/var/tmp");
    if (::mkdtemp(path.data()) == nullptr)
      return Error::from_errno(fmt::format("making a folder for a snapshot's changes ({}; TMPDIR names another)", path),
                               errno);
    return PrivateFolder(std::move(path));
  }
  PrivateFolder(PrivateFolder&& other) noexcept : path_(std::move(other.path_)) { other.path_.clear(); }
  PrivateFolder& operator=(PrivateFolder&&) = delete;
  ~PrivateFolder() {
    if (path_.empty()) return;
    ::unlink(file().c_str());
    ::rmdir(path_.c_str());
  }
  std::string file() const { return path_ + "/overlay.qcow2"; }

 private:
  explicit PrivateFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace

Result<std::unique_ptr<disk::Image>> open_snapshot(const std::string& path, const disk::OpenOptions& options) {
  disk::OpenOptions below = options;
  below.read_only = true;
  disk::qcow2::CreateOptions overlay;
  {
    TRY(const auto base, disk::open_image(path, below));
    overlay.size_bytes = base->size();
    overlay.backing_format = disk::format_name(base->format());
    if (base->format() == disk::Format::Nbd)
      return Error(fmt::format("{}: snapshot is for files: an NBD export cannot be below it", path));
  }
  std::error_code failed;
  overlay.backing_file = std::filesystem::absolute(path, failed).string();

  TRY(const PrivateFolder folder, PrivateFolder::create());
  {
    TRY(const auto file, disk::create_host_file(folder.file(), disk::SyncPolicy::NoSync));
    TRY_VOID(disk::qcow2::create_image(*file, overlay));
  }
  disk::OpenOptions above = options;
  above.format = disk::Format::Qcow2;
  above.read_only = false;
  return disk::open_image(folder.file(), above);
}

}  // namespace veneer::vm
