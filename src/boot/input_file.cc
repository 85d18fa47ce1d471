// Reading of kernel and initrd files.
#include "boot/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <memory>

namespace veneer::boot {

Result<InputFile> InputFile::open(const std::string& path) {
  InputFile file;
  // O_NONBLOCK: a FIFO must not block here; it is refused below.
  file.fd_ = Fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.fd_.valid()) return Error::from_errno("cannot open it", errno);
  struct stat status {};
  if (::fstat(file.fd_.get(), &status) != 0) return Error::from_errno("cannot stat it", errno);
  if (S_ISDIR(status.st_mode)) return Error("it is a directory");
  if (!S_ISREG(status.st_mode)) return Error("it is not a regular file");
  file.size_bytes_ = static_cast<std::uint64_t>(status.st_size);
  return file;
}

Result<std::size_t> InputFile::read(std::uint64_t offset, std::span<std::byte> out) const {
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t got = ::pread(fd_.get(), out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return Error::from_errno("cannot read it", errno);
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  return done;
}

Result<void> InputFile::copy_to(machine::GuestMemory& memory, GuestPhys address, std::uint64_t offset,
                                std::uint64_t size_bytes) const {
  constexpr std::size_t chunk_bytes = MiB;
  const auto buffer = std::make_unique<std::byte[]>(chunk_bytes);
  for (std::uint64_t done = 0; done < size_bytes;) {
    const std::span chunk(buffer.get(),
                          static_cast<std::size_t>(std::min<std::uint64_t>(chunk_bytes, size_bytes - done)));
    TRY(const std::size_t got, read(offset + done, chunk));
    if (got < chunk.size()) return Error("the file became shorter while it was read");
    if (!memory.write(address + done, chunk)) return Error("it does not fit into the guest's memory");
    done += got;
  }
  return {};
}

}  // namespace veneer::boot
