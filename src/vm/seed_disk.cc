// Disks that are made when the machine starts: seeds for cloud-init, in memory.
#include "vm/seed_disk.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <vector>

#include "base/fd.h"
#include "image/cloud_init.h"

namespace veneer::vm {

Result<std::unique_ptr<disk::Image>> make_seed_disk(const std::string& path) {
  TRY(const std::vector<std::uint8_t> volume, image::make_seed(path.substr(seed_prefix.size())));
  const Fd memory(::memfd_create("cloud-init", MFD_CLOEXEC));
  if (!memory.valid()) return Error::from_errno("making a file in memory", errno);
  if (::write(memory.get(), volume.data(), volume.size()) != static_cast<ssize_t>(volume.size()))
    return Error::from_errno("filling a file in memory", errno);
  disk::OpenOptions open;
  open.format = disk::Format::Raw;
  open.read_only = true;
  return disk::open_image(fmt::format("/proc/self/fd/{}", memory.get()), open);
}

}  // namespace veneer::vm
