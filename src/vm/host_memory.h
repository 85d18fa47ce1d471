// How much memory the host and its control groups can give, before a guest asks for it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace veneer::vm {

/// Bytes that could be allocated now. nullopt: not known.
struct HostMemory {
  std::optional<std::uint64_t> available;     ///< MemAvailable plus free swap
  std::optional<std::uint64_t> cgroup_limit;  ///< the smallest limit on the way to the root, less what is in use
};

/// Reads a whole small file; nullopt when there is none. Tests put their own here.
using FileReader = std::function<std::optional<std::string>(const std::string& path)>;
std::optional<std::string> read_small_file(const std::string& path);

HostMemory measure_host_memory(const FileReader& read = read_small_file);

/// One sentence when `wanted` is more than the host can give, else empty.
std::string memory_warning(std::uint64_t wanted, const HostMemory& host);

/// Asks the kernel to end this process first when memory runs out: the guest's memory is by far its biggest part,
/// and whatever else runs here has done no harm.
void volunteer_for_oom();

}  // namespace veneer::vm
