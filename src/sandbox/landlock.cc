// Landlock's three system calls, which the C library does not wrap (Linux Documentation/userspace-api/landlock.rst).
#include "sandbox/landlock.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace veneer::sandbox {
namespace {

// The kernel's interface as of ABI 7; the headers of Debian 12 stop at ABI 2.
struct RulesetAttributes {
  std::uint64_t handled_access_fs;
  std::uint64_t handled_access_net;  // since ABI 4
  std::uint64_t scoped;              // since ABI 6
};
struct __attribute__((packed)) PathBeneath {
  std::uint64_t allowed_access;
  std::int32_t parent_fd;
};
constexpr unsigned CREATE_RULESET_VERSION = 1;
constexpr int RULE_PATH_BENEATH = 1;

constexpr std::uint64_t FS_READ_FILE = 1u << 2;
constexpr std::uint64_t FS_REMOVE_DIR = 1u << 4;
constexpr std::uint64_t FS_REMOVE_FILE = 1u << 5;

/// All rights on files that this ABI knows of.
constexpr std::uint64_t all_file_rights(int abi) {
  unsigned count = 13;       // up to MAKE_SYM
  if (abi >= 2) count = 14;  // REFER
  if (abi >= 3) count = 15;  // TRUNCATE
  if (abi >= 5) count = 16;  // IOCTL_DEV
  return (std::uint64_t{1} << count) - 1;
}
constexpr std::uint64_t ALL_TCP = 3;     // BIND_TCP, CONNECT_TCP
constexpr std::uint64_t ALL_SCOPES = 3;  // ABSTRACT_UNIX_SOCKET, SIGNAL
/// Before ABI 7 a signal to another thread of the same process could count as one to somebody else.
constexpr int first_abi_with_working_signal_scope = 7;

std::size_t attributes_size(int abi) {
  if (abi >= 6) return sizeof(RulesetAttributes);
  return abi >= 4 ? offsetof(RulesetAttributes, scoped) : offsetof(RulesetAttributes, handled_access_net);
}

}  // namespace

int landlock_version() {
  const long abi = ::syscall(SYS_landlock_create_ruleset, nullptr, std::size_t{0}, CREATE_RULESET_VERSION);
  return abi > 0 ? static_cast<int>(abi) : 0;
}

namespace {

/// Directories that do not exist are left out.
Result<void> allow(const Fd& ruleset, const std::vector<std::string>& directories, std::uint64_t access) {
  for (const std::string& path : directories) {
    const Fd directory(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!directory.valid()) continue;
    const PathBeneath rule{access, directory.get()};
    if (::syscall(SYS_landlock_add_rule, ruleset.get(), RULE_PATH_BENEATH, &rule, 0u) != 0)
      return Error::from_errno("landlock_add_rule for " + path, errno);
  }
  return {};
}

}  // namespace

Result<Fd> make_landlock_ruleset(const std::vector<std::string>& cleanup_directories, Tcp tcp,
                                 const std::vector<std::string>& readable_directories) {
  const int abi = landlock_version();
  RulesetAttributes attributes{all_file_rights(abi), tcp == Tcp::Forbidden ? ALL_TCP : 0,
                               abi >= first_abi_with_working_signal_scope ? ALL_SCOPES : 0};
  Fd ruleset(static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, attributes_size(abi), 0u)));
  if (!ruleset.valid()) return Error::from_errno("landlock_create_ruleset", errno);
  TRY_VOID(allow(ruleset, cleanup_directories, FS_REMOVE_FILE | FS_REMOVE_DIR));
  TRY_VOID(allow(ruleset, readable_directories, FS_READ_FILE));
  return ruleset;
}

Result<void> enforce_landlock(const Fd& ruleset) {
  if (::syscall(SYS_landlock_restrict_self, ruleset.get(), 0u) != 0)
    return Error::from_errno("landlock_restrict_self", errno);
  return {};
}

}  // namespace veneer::sandbox
