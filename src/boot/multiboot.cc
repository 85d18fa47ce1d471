// Looking for the multiboot 1 header.
#include "boot/multiboot.h"

#include <fmt/format.h>

#include <array>
#include <cstring>

namespace veneer::boot {

Result<std::optional<MultibootHeader>> find_multiboot(const InputFile& file) {
  constexpr std::size_t searched_bytes = 8192;
  constexpr std::uint32_t magic = 0x1badb002, has_addresses = 1u << 16;
  constexpr std::uint32_t page_aligned_modules = 1, memory_map = 2,
                          video = 4;  // all modules are, there always is, none
  std::array<std::byte, searched_bytes> head{};
  TRY(const std::size_t got, file.read(0, head));
  const auto word = [&](std::size_t at) {
    std::uint32_t value;
    std::memcpy(&value, head.data() + at, sizeof value);
    return value;
  };
  constexpr std::size_t short_form = 12, long_form = 32;
  for (std::size_t at = 0; at + short_form <= got; at += 4) {
    const std::uint32_t flags = word(at + 4);
    if (word(at) != magic || magic + flags + word(at + 8) != 0) continue;
    if (const std::uint32_t unknown = flags & 0xffff & ~(page_aligned_modules | memory_map | video); unknown != 0)
      return Error(fmt::format("its multiboot header demands what is not served (flags {:#x})", unknown));
    MultibootHeader header{at, std::nullopt};
    if (flags & has_addresses) {
      if (at + long_form > got) return Error("it is cut within its multiboot header");
      header.addresses = {word(at + 12), word(at + 16), word(at + 20), word(at + 24), word(at + 28)};
    }
    return std::optional(header);
  }
  return std::optional<MultibootHeader>();
}

}  // namespace veneer::boot
