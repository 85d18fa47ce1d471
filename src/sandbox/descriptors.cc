// Finding and closing inherited descriptors.
#include "sandbox/descriptors.h"

#include <dirent.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

namespace veneer::sandbox {

std::vector<int> open_descriptors() {
  std::vector<int> found;
  DIR* directory = ::opendir("/proc/self/fd");
  if (directory == nullptr) return found;
  while (const dirent* entry = ::readdir(directory)) {
    const int fd = std::atoi(entry->d_name);  // "." and ".." give 0
    if (fd > STDERR_FILENO && fd != ::dirfd(directory)) found.push_back(fd);
  }
  ::closedir(directory);
  std::sort(found.begin(), found.end());
  return found;
}

void close_descriptors(const std::vector<int>& descriptors) {
  for (const int fd : descriptors) ::close(fd);
}

}  // namespace veneer::sandbox
