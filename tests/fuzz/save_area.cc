// XSAVE images in a case's memory: a component in its initial configuration may be marked in use, or not.
#include "save_area.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "values.h"

namespace veneer::fuzz {

namespace {

constexpr unsigned X87 = 0, SSE = 1;
constexpr std::size_t alignment = 64, xstate_bv_at = 512, xcomp_bv_at = 520, header_end = 576;
constexpr unsigned mxcsr_at = 24, mxcsr_bytes = 8, st_at = 32, st_bytes = 128, xmm_at = 160, xmm_bytes = 256;
constexpr unsigned AVX = 2, ZMM_HIGH = 6, HIGH_ZMM = 7;
constexpr std::uint64_t compacted = std::uint64_t{1} << 63;

std::uint64_t load64(const std::uint8_t* at) {
  std::uint64_t value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

/// Adjacent data pages of both sides.
struct Region {
  const std::uint8_t* native;
  std::uint8_t* guest;
  std::size_t bytes;
};

bool all_zero(const std::uint8_t* at, std::size_t bytes) {
  return std::all_of(at, at + bytes, [](std::uint8_t byte) { return byte == 0; });
}

bool x87_is_initial(const std::uint8_t* area) {
  std::uint16_t control;
  std::memcpy(&control, area, sizeof control);
  return control == 0x37f && all_zero(area + 2, mxcsr_at - 2) && all_zero(area + st_at, st_bytes);
}

/// The bytes of a component that code of this width stores: outside 64-bit mode vector registers 0 to 7 only (SDM 1
/// 13.4 to 13.7), and so nothing at all of registers 16 to 31.
std::size_t stored_bytes(CodeWidth width, unsigned component) {
  const std::size_t all = component == SSE ? xmm_bytes : component_place(component).size;
  if (width == CodeWidth::Bits64) return all;
  switch (component) {
    case SSE:
    case AVX:
    case ZMM_HIGH:
      return all / 2;
    case HIGH_ZMM:
      return 0;
    default:
      return all;
  }
}

/// Where a component of 2 or above lies, in an image whose format byte `layout` gives (0: standard).
std::size_t place_of(unsigned component, std::uint64_t layout) {
  if (!layout) return component_place(component).offset;
  std::size_t at = header_end;
  for (unsigned i = 2; i < component; i++)
    if ((layout >> i) & 1) at += component_place(i).size;
  return at;
}

/// Makes the guest's image like the native one if they differ in initial components only; an image is at `at`.
bool forgive(CodeWidth width, const Region& region, std::size_t at, std::uint64_t components, std::uint64_t layout) {
  const std::uint8_t* native = region.native + at;
  std::uint8_t* guest = region.guest + at;
  const std::uint64_t differing = load64(native + xstate_bv_at) ^ load64(guest + xstate_bv_at);
  if (!differing || (differing & ~(layout ? layout & components : components))) return false;
  const auto each = [&](auto&& visit) {
    for (std::uint64_t left = differing; left; left &= left - 1) {
      const auto component = static_cast<unsigned>(std::countr_zero(left));
      const bool by_native = (load64(native + xstate_bv_at) >> component) & 1;
      if (!visit(component, by_native ? native : guest)) return false;
    }
    return true;
  };
  const bool initial = each([&](unsigned component, const std::uint8_t* area) {
    if (component == X87) return x87_is_initial(area);
    // Zen 4 leaves MXCSR out of this.
    if (component == SSE) return all_zero(area + xmm_at, stored_bytes(width, SSE));
    const std::size_t offset = place_of(component, layout), size = stored_bytes(width, component);
    return at + offset + size <= region.bytes && all_zero(area + offset, size);
  });
  if (!initial) return false;
  each([&](unsigned component, const std::uint8_t*) {
    if (component == X87) {
      std::memcpy(guest, native, mxcsr_at);
      std::memcpy(guest + st_at, native + st_at, st_bytes);
    } else if (component == SSE) {
      std::memcpy(guest + mxcsr_at, native + mxcsr_at, mxcsr_bytes);
      std::memcpy(guest + xmm_at, native + xmm_at, stored_bytes(width, SSE));
    } else {
      const std::size_t offset = place_of(component, layout);
      std::memcpy(guest + offset, native + offset, stored_bytes(width, component));
    }
    return true;
  });
  std::memcpy(guest + xstate_bv_at, native + xstate_bv_at, sizeof(std::uint64_t));
  return true;
}

}  // namespace

bool forgive_initial_components(CodeWidth width, std::uint64_t components, const Outcome& native, Outcome& guest) {
  bool forgiven = false;
  for (std::size_t first = 0, next; first < data_pages.size(); first = next) {
    next = first + 1;
    while (next < data_pages.size() && data_pages[next].address == data_pages[next - 1].address + page_bytes) next++;
    const Region region{native.memory[first], guest.memory[first], (next - first) * page_bytes};
    for (std::size_t at = 0; at + header_end <= region.bytes; at += alignment) {
      const std::uint64_t layout = load64(region.native + at + xcomp_bv_at);
      const bool compact = (layout & compacted) && layout == load64(region.guest + at + xcomp_bv_at);
      forgiven |= (compact && forgive(width, region, at, components, layout & ~compacted)) ||
                  forgive(width, region, at, components, 0);
    }
  }
  return forgiven;
}

}  // namespace veneer::fuzz
