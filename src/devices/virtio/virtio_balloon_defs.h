// Bits and numbers of the virtio memory balloon (Virtio 1.2 5.5).
#pragma once

#include <cstdint>

namespace veneer::devices {

// Feature bits (5.5.3)
inline constexpr unsigned BALLOON_F_MUST_TELL_HOST = 0;
inline constexpr unsigned BALLOON_F_STATS_VQ = 1;
inline constexpr unsigned BALLOON_F_DEFLATE_ON_OOM = 2;
inline constexpr unsigned BALLOON_F_FREE_PAGE_HINT = 3;
inline constexpr unsigned BALLOON_F_PAGE_POISON = 4;
inline constexpr unsigned BALLOON_F_PAGE_REPORTING = 5;

// Statistics (5.5.6.4): bytes, but for the faults and the huge pages, which are counts since the guest's start
inline constexpr std::uint16_t BALLOON_S_SWAP_IN = 0;
inline constexpr std::uint16_t BALLOON_S_SWAP_OUT = 1;
inline constexpr std::uint16_t BALLOON_S_MAJFLT = 2;
inline constexpr std::uint16_t BALLOON_S_MINFLT = 3;
inline constexpr std::uint16_t BALLOON_S_MEMFREE = 4;
inline constexpr std::uint16_t BALLOON_S_MEMTOT = 5;
inline constexpr std::uint16_t BALLOON_S_AVAIL = 6;
inline constexpr std::uint16_t BALLOON_S_CACHES = 7;
inline constexpr std::uint16_t BALLOON_S_HTLB_PGALLOC = 8;
inline constexpr std::uint16_t BALLOON_S_HTLB_PGFAIL = 9;
inline constexpr unsigned balloon_statistics_count = 10;

}  // namespace veneer::devices
