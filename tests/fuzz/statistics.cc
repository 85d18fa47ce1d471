// Makes the shared counters.
#include "statistics.h"

#include <sys/mman.h>

#include <cerrno>
#include <new>

namespace veneer::fuzz {

Result<Statistics*> make_statistics() {
  void* memory = ::mmap(nullptr, sizeof(Statistics), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return Error::from_errno("mapping the statistics", errno);
  return new (memory) Statistics{};
}

}  // namespace veneer::fuzz
