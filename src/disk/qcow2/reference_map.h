// ReferenceMap: a count per host cluster, sparse: memory follows what is used, not how large a file claims to be.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>

#include "base/result.h"

namespace veneer::disk::qcow2 {

class ReferenceMap {
 public:
  std::uint32_t get(std::uint64_t cluster) const {
    const auto found = chunks_.find(cluster / chunk);
    return found == chunks_.end() ? 0 : (*found->second)[cluster % chunk];
  }
  /// Fails when the image needs more than 1 GiB of counts: only a hostile one does, or one of dozens of terabytes.
  Result<void> add(std::uint64_t cluster) {
    auto& counts = chunks_[cluster / chunk];
    if (counts == nullptr) {
      if (chunks_.size() > max_chunks) return Error("the image is too large or too scattered to be checked here");
      counts = std::make_unique<Counts>();
    }
    ++(*counts)[cluster % chunk];
    return {};
  }
  /// One above the highest cluster that is used.
  std::uint64_t end() const {
    for (auto it = chunks_.rbegin(); it != chunks_.rend(); ++it)
      for (std::uint64_t i = chunk; i-- > 0;)
        if ((*it->second)[i] != 0) return it->first * chunk + i + 1;
    return 0;
  }
  template <typename Function>
  void for_each_used(Function&& function) const {
    for (const auto& [index, counts] : chunks_)
      for (std::uint64_t i = 0; i < chunk; ++i)
        if ((*counts)[i] != 0) function(index * chunk + i, (*counts)[i]);
  }

 private:
  static constexpr std::uint64_t chunk = 512;
  static constexpr std::size_t max_chunks = 512 * 1024;
  using Counts = std::array<std::uint32_t, chunk>;
  std::map<std::uint64_t, std::unique_ptr<Counts>> chunks_;
};

}  // namespace veneer::disk::qcow2
