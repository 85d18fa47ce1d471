// Answering requests for random bytes.
#include "devices/virtio/virtio_rng.h"

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace veneer::devices {

bool host_entropy(std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t got = ::getrandom(out.data(), out.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    out = out.subspan(static_cast<std::size_t>(got));
  }
  return true;
}

void VirtioRng::notify(unsigned, VirtQueue& queue) {
  while (const auto chain = queue.pop()) queue.push(chain->head, fill(*chain));
}

std::uint32_t VirtioRng::fill(const VirtChain& chain) {
  const std::uint64_t wanted = std::min<std::uint64_t>(chain.writable_bytes, request_bytes_max);
  std::array<std::byte, 4 * KiB> bytes{};
  std::uint64_t done = 0;
  while (done < wanted) {
    const auto piece =
        std::span(bytes).first(static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), wanted - done)));
    if (!source_(piece)) break;
    const std::size_t copied = copy_to_chain(memory_, chain, done, piece);
    done += copied;
    if (copied < piece.size()) break;  // the rest is not RAM
  }
  return static_cast<std::uint32_t>(done);
}

}  // namespace veneer::devices
