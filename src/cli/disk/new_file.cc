// A new image file that appears under its name only when it is whole.
#include "cli/disk/new_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/fd.h"
#include "disk/qcow2/create.h"
#include "disk/qcow2/qcow2_image.h"
#include "disk/raw.h"

namespace veneer::cli {
namespace {

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

}  // namespace

Result<NewFile> NewFile::make(const std::string& target, bool replace) {
  struct stat about {};
  if (stat(target.c_str(), &about) == 0) {
    if (!S_ISREG(about.st_mode))
      return Error(fmt::format("{} exists and is not a regular file", target)).with_code(EEXIST);
    if (!replace)
      return Error(fmt::format("{} exists already. Remove it first, or choose another name", target)).with_code(EEXIST);
  }
  return NewFile(target, fmt::format("{}.new-{}", target, getpid()));
}

NewFile::~NewFile() {
  if (!path_.empty()) unlink(path_.c_str());
}

Result<void> NewFile::publish(bool sync) {
  if (sync) {
    const Fd fd(open(path_.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid() || fsync(fd.get()) != 0) return Error::from_errno(fmt::format("flushing {}", path_), errno);
  }
  if (rename(path_.c_str(), target_.c_str()) != 0)
    return Error::from_errno(fmt::format("renaming {} to {}", path_, target_), errno);
  path_.clear();
  if (sync) {
    const Fd folder(open(folder_of(target_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder.valid() || fsync(folder.get()) != 0)
      return Error::from_errno(fmt::format("flushing the folder of {}", target_), errno);
  }
  return {};
}

Result<std::unique_ptr<disk::Image>> make_image(const NewFile& file, const NewImage& like, std::uint64_t size_bytes,
                                                std::optional<std::string> backing, const std::string& backing_format) {
  using namespace disk;
  TRY(std::unique_ptr<HostFile> host, create_host_file(file.path(), SyncPolicy::NoSync));
  OpenOptions options;
  options.format = like.format;
  if (like.format == Format::Raw) {
    TRY_VOID(host->truncate(size_bytes));
    return open_raw(std::move(host), options, false);
  }
  qcow2::CreateOptions create;
  create.size_bytes = size_bytes;
  create.cluster_bytes = like.cluster_bytes;
  create.version = like.version;
  create.refcount_bits = like.refcount_bits;
  create.lazy_refcounts = like.lazy_refcounts;
  create.compression = like.compression;
  create.backing_file = std::move(backing);
  create.backing_format = backing_format;
  TRY_VOID(qcow2::create_image(*host, create));
  TRY(qcow2::Header header, qcow2::read_header(*host));
  TRY(std::unique_ptr<qcow2::Qcow2Image> image,
      qcow2::Qcow2Image::open(std::move(host), std::move(header), options, nullptr));
  return std::unique_ptr<Image>(std::move(image));
}

}  // namespace veneer::cli
