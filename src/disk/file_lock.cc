// Locks on image files: shared locks on one byte per right that is used, and one per right that others must not use.
//
// A right that is used is byte 100 + n, a right denied to others is byte 200 + n; n is 0 for consistent reads, 1 for
// writes, 3 for resizing (QEMU's numbering, so that the two exclude each other). All are taken as *shared* locks;
// whether somebody stands in the way is asked afterwards, by testing whether an exclusive lock would be possible on the
// opposite bytes. Two that come at once may both give up, but never both go on.
#include "disk/file_lock.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <span>

#include "base/log.h"

namespace veneer::disk {
namespace {

constexpr off_t used_base = 100;
constexpr off_t denied_base = 200;
constexpr off_t right_read = 0;
constexpr off_t right_write = 1;
constexpr off_t right_resize = 3;

struct flock one_byte(short type, off_t at) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = at;
  lock.l_len = 1;
  return lock;
}

/// 0, or an errno value.
int take(int fd, off_t at) {
  struct flock lock = one_byte(F_RDLCK, at);
  return fcntl(fd, F_OFD_SETLK, &lock) == 0 ? 0 : errno;
}

bool held_by_another(int fd, off_t at) {
  struct flock lock = one_byte(F_WRLCK, at);
  return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

Error in_use(const std::string& path, bool being_written) {
  return Error(fmt::format("{} is in use: another process {}. Stop that one first, or use a copy or an overlay", path,
                           being_written ? "may write to it" : "relies on its not changing (it has it open)"))
      .with_code(EBUSY);
}

}  // namespace

Result<void> lock_image_file(int fd, LockKind kind, const std::string& path) {
  static constexpr std::array<off_t, 3> writer_rights{right_read, right_write, right_resize};
  static constexpr std::array<off_t, 1> reader_rights{right_read};
  static constexpr std::array<off_t, 2> denied{right_write, right_resize};
  const std::span<const off_t> used =
      kind == LockKind::Writer ? std::span<const off_t>(writer_rights) : std::span<const off_t>(reader_rights);

  int failure = 0;
  for (const off_t right : used)
    if (failure == 0) failure = take(fd, used_base + right);
  for (const off_t right : denied)
    if (failure == 0) failure = take(fd, denied_base + right);
  if (failure == EAGAIN || failure == EACCES) return in_use(path, true);
  if (failure != 0) {
    // EINVAL, ENOLCK, EOPNOTSUPP: some network and FUSE file systems.
    log_warning("{}: its file system knows no locks; nothing keeps a second writer away", path);
    return {};
  }
  for (const off_t right : denied)
    if (held_by_another(fd, used_base + right)) return in_use(path, true);
  for (const off_t right : used)
    if (held_by_another(fd, denied_base + right)) return in_use(path, false);
  return {};
}

}  // namespace veneer::disk
