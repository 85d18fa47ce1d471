// Claiming names, finding machines, clearing up after dead ones.
#include "host/run_directory.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <memory>

namespace veneer::host {
namespace {

constexpr std::size_t longest_name = 40;
constexpr unsigned last_automatic_number = 100'000;
constexpr std::size_t last_words_bytes = 2000;

bool is_ours(const std::string& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode) && info.st_uid == ::geteuid();
}

/// A whole small file from a descriptor, or its end.
std::string read_end(int fd, std::size_t limit) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return {};
  const auto size = static_cast<std::size_t>(info.st_size);
  std::string text(std::min(size, limit), '\0');
  const ssize_t n = ::pread(fd, text.data(), text.size(), static_cast<off_t>(size - text.size()));
  text.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
  return text;
}

/// The pid file, opened and locked, and certainly the one that stands there: between open and flock somebody may have
/// removed it and another machine may have made a new one.
std::optional<Fd> lock_pid_file(const std::string& path, int flags) {
  Fd file(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600));
  if (!file.valid() || ::flock(file.get(), LOCK_EX | LOCK_NB) != 0) return std::nullopt;
  struct stat mine {
  }, there{};
  if (::fstat(file.get(), &mine) != 0 || ::stat(path.c_str(), &there) != 0 || mine.st_ino != there.st_ino)
    return std::nullopt;
  return file;
}

void remove_directory(const std::string& path) {
  for (const char* file : {"/control", "/log", "/pid"}) ::unlink((path + file).c_str());  // the lock's file last
  ::rmdir(path.c_str());
}

std::vector<std::string> directory_names(const std::string& base) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> directory(::opendir(base.c_str()), ::closedir);
  if (!directory) return names;
  while (const dirent* entry = ::readdir(directory.get()))
    if (!name_problem(entry->d_name)) names.emplace_back(entry->d_name);
  std::sort(names.begin(), names.end());
  return names;
}

pid_t read_pid(const std::string& path) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  return file.valid() ? static_cast<pid_t>(std::atoi(read_end(file.get(), 32).c_str())) : 0;
}

}  // namespace

Result<std::string> base_directory() {
  std::string path;
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  // After su the variable may still be that of another user.
  if (runtime != nullptr && *runtime == '/' && is_ours(runtime))
    path = std::string(runtime) + "/veneer";
  else
    path = fmt::format("/tmp/veneer-{}", ::geteuid());
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    return Error::from_errno("making the run directory " + path, errno);
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) return Error::from_errno("looking at the run directory " + path, errno);
  if (!S_ISDIR(info.st_mode) || info.st_uid != ::geteuid() || (info.st_mode & 077) != 0)
    return Error(
        fmt::format("the run directory {} is not a directory of this user alone (mode 0700): whoever else can "
                    "write there could take over machines. Remove it, or set XDG_RUNTIME_DIR to a directory "
                    "of yours",
                    path));
  return path;
}

std::optional<std::string> name_problem(const std::string& name) {
  const auto letter_or_digit = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  const bool good = !name.empty() && name.size() <= longest_name && letter_or_digit(name.front()) &&
                    std::all_of(name.begin(), name.end(),
                                [&](char c) { return letter_or_digit(c) || c == '.' || c == '_' || c == '-'; });
  if (good) return std::nullopt;
  return fmt::format(
      "\"{}\" cannot be a machine's name: 1 to {} letters, digits, '.', '_' and '-', the first a letter "
      "or a digit",
      name, longest_name);
}

Result<Machines> find_machines() {
  TRY(const std::string base, base_directory());
  Machines machines;
  for (const std::string& name : directory_names(base)) {
    const std::string path = base + "/" + name;
    if (!is_ours(path)) continue;
    if (const auto lock = lock_pid_file(path + "/pid", 0)) {
      const Fd log(::open((path + "/log").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
      machines.dead.push_back({name, log.valid() ? read_end(log.get(), last_words_bytes) : ""});
      remove_directory(path);
    } else if (const pid_t pid = read_pid(path + "/pid"); pid > 0) {
      machines.running.push_back({name, path, pid});
    }
    // Else it is just being made or removed.
  }
  return machines;
}

bool has_ended(const RunningMachine& machine) {
  // Looking takes the lock for a moment; a machine that starts under this name just then takes the next try.
  const Fd file(::open((machine.directory + "/pid").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file.valid()) return errno == ENOENT;
  return ::flock(file.get(), LOCK_SH | LOCK_NB) == 0 || read_pid(machine.directory + "/pid") != machine.pid;
}

Result<std::optional<RunDirectory>> RunDirectory::try_claim(const std::string& base, const std::string& name) {
  const std::string path = base + "/" + name;
  constexpr int tries = 50;
  for (int i = 0; i < tries; ++i) {
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return Error::from_errno("making " + path, errno);
    if (auto lock = lock_pid_file(path + "/pid", O_CREAT)) {
      for (const char* file : {"/control", "/log"}) ::unlink((path + file).c_str());  // a dead machine's
      const std::string text = fmt::format("{}\n", ::getpid());
      if (::ftruncate(lock->get(), 0) != 0 ||
          ::pwrite(lock->get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
        return Error::from_errno("writing " + path + "/pid", errno);
      return std::optional<RunDirectory>(RunDirectory(name, path, std::move(*lock)));
    }
    const int error = errno;
    if (read_pid(path + "/pid") > 0 && error == EWOULDBLOCK) {
      // Held by a machine, or for a moment by somebody who looks. Machines hold it for longer.
      if (i >= 5) return std::optional<RunDirectory>();
    } else if (error == EACCES || error == EROFS || error == ENOSPC) {
      return Error::from_errno("making " + path + "/pid", error);
    }
    ::usleep(2000);
  }
  return std::optional<RunDirectory>();
}

Result<RunDirectory> RunDirectory::claim(const std::string& name) {
  TRY(const std::string base, base_directory());
  if (!name.empty()) {
    if (const auto problem = name_problem(name)) return Error(*problem);
    TRY(auto claimed, try_claim(base, name));
    if (claimed) return std::move(*claimed);
    return Error(
        fmt::format("a machine named \"{}\" is running already (process {}): take another name, or end it with "
                    "veneer stop {}",
                    name, read_pid(base + "/" + name + "/pid"), name));
  }
  for (unsigned number = 1; number <= last_automatic_number; ++number) {
    const std::string candidate = fmt::format("vm{}", number);
    // A lock that is held costs a few tries; most of the time one look tells.
    const RunningMachine there{candidate, base + "/" + candidate, read_pid(base + "/" + candidate + "/pid")};
    if (there.pid > 0 && !has_ended(there)) continue;
    TRY(auto claimed, try_claim(base, candidate));
    if (claimed) return std::move(*claimed);
  }
  return Error("no free name for the machine: give one with --name");
}

RunDirectory::~RunDirectory() {
  if (!pid_file_.valid()) return;  // moved away
  if (keep_log_)
    ::unlink(control_path().c_str());
  else
    remove_directory(path_);
}

}  // namespace veneer::host
