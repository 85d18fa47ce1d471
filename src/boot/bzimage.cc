// Parsing and checking of the Linux/x86 setup header.
#include "boot/bzimage.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>

#include "base/units.h"

namespace veneer::boot {
namespace {

// Offsets of header fields in the file (boot.rst, "The Real-Mode Kernel Header").
enum Field : std::size_t {
  SETUP_SECTS = 0x1f1,
  SYSSIZE = 0x1f4,
  BOOT_FLAG = 0x1fe,
  JUMP = 0x200,  // its second byte is the distance from 0x202 to the end of the header
  HEADER = 0x202,
  VERSION = 0x206,
  LOADFLAGS = 0x211,
  INITRD_ADDR_MAX = 0x22c,
  KERNEL_ALIGNMENT = 0x230,
  XLOADFLAGS = 0x236,
  CMDLINE_SIZE = 0x238,
  PREF_ADDRESS = 0x258,
  INIT_SIZE = 0x260,
};

constexpr std::uint16_t BOOT_FLAG_MAGIC = 0xaa55;
constexpr std::uint32_t HDRS_MAGIC = 0x53726448;  // "HdrS"
constexpr std::uint16_t PROTOCOL_2_10 = 0x020a;   // first with pref_address and init_size
constexpr std::uint16_t PROTOCOL_2_12 = 0x020c;   // first with xloadflags
constexpr std::uint8_t LOADED_HIGH = 1u << 0;
constexpr std::uint16_t XLF_KERNEL_64 = 1u << 0;
constexpr std::size_t HEADER_START = 0x1f1;
constexpr std::size_t HEADER_END_MIN = 0x264;  // past init_size
constexpr std::size_t HEADER_END_MAX = 0x290;  // boot_params has other fields from here on
constexpr std::uint64_t SECTOR = 512;
constexpr std::uint64_t PARAGRAPH = 16;

template <typename T>
T field(std::span<const std::byte> head, std::size_t offset) {
  T value{};
  std::memcpy(&value, head.data() + offset, sizeof value);
  return value;
}

bool starts_with(std::span<const std::byte> head, std::string_view magic) {
  return head.size() >= magic.size() && std::memcmp(head.data(), magic.data(), magic.size()) == 0;
}

/// What a file that is no bzImage looks like, for the message.
std::string guess(std::span<const std::byte> head) {
  if (starts_with(head,
                  "\x7f"
                  "ELF"))
    return "it is an ELF file (a vmlinux?); give the bzImage that distributions install as vmlinuz";
  if (starts_with(head, "\x1f\x8b")) return "it is gzip-compressed data; an initrd?";
  if (starts_with(head, "070701")) return "it is a cpio archive; an initrd?";
  if (starts_with(head, "\x28\xb5\x2f\xfd")) return "it is zstd-compressed data; an initrd?";
  if (starts_with(head,
                  "\xfd"
                  "7zXZ"))
    return "it is xz-compressed data; an initrd?";
  if (starts_with(head, "QFI\xfb")) return "it is a qcow2 disk image";
  return "the boot protocol's signature is missing";
}

Error bad_field(std::string_view name, std::uint64_t value) {
  return Error(fmt::format("damaged kernel: header field {} is {:#x}", name, value));
}

}  // namespace

Result<BzImage> parse_bzimage(std::span<const std::byte> head, std::uint64_t file_bytes) {
  if (head.size() < HEADER_END_MIN) {
    if (file_bytes == 0) return Error("not a Linux kernel: the file is empty");
    if (file_bytes < HEADER_END_MIN)
      return Error(fmt::format("not a Linux kernel: {} bytes are too few; {}", file_bytes, guess(head)));
    return Error("not a Linux kernel: the file could not be read far enough");
  }
  if (field<std::uint16_t>(head, BOOT_FLAG) != BOOT_FLAG_MAGIC || field<std::uint32_t>(head, HEADER) != HDRS_MAGIC)
    return Error("not a Linux kernel: " + guess(head));

  BzImage image;
  image.version = field<std::uint16_t>(head, VERSION);
  if (image.version < PROTOCOL_2_10)
    return Error(fmt::format("kernel too old: boot protocol {}.{:02}, 2.10 (Linux 2.6.31) is the first that is served",
                             image.version >> 8, image.version & 0xff));
  if (!(field<std::uint8_t>(head, LOADFLAGS) & LOADED_HIGH)) return Error("kernel is a zImage, not a bzImage");
  image.entry64 = image.version >= PROTOCOL_2_12 && (field<std::uint16_t>(head, XLOADFLAGS) & XLF_KERNEL_64);

  const std::size_t header_end = HEADER + field<std::uint8_t>(head, JUMP + 1);
  if (header_end < HEADER_END_MIN || header_end > HEADER_END_MAX || header_end > head.size())
    return bad_field("jump", header_end);
  image.setup_header.assign(head.begin() + HEADER_START, head.begin() + static_cast<std::ptrdiff_t>(header_end));

  const std::uint8_t setup_sects = field<std::uint8_t>(head, SETUP_SECTS);
  image.payload_offset = (std::uint64_t{setup_sects == 0 ? 4u : setup_sects} + 1) * SECTOR;
  image.payload_bytes = std::uint64_t{field<std::uint32_t>(head, SYSSIZE)} * PARAGRAPH;
  if (image.payload_bytes == 0) return bad_field("syssize", 0);
  if (image.payload_offset >= file_bytes || file_bytes - image.payload_offset < image.payload_bytes - (PARAGRAPH - 1))
    return Error(fmt::format("kernel is truncated: its header promises {} bytes, the file has {}",
                             image.payload_offset + image.payload_bytes, file_bytes));
  if (image.payload_bytes > file_bytes - image.payload_offset)  // syssize rounds up to a paragraph
    image.payload_bytes = file_bytes - image.payload_offset;

  image.alignment = field<std::uint32_t>(head, KERNEL_ALIGNMENT);
  if (!std::has_single_bit(image.alignment) || image.alignment < page_size || image.alignment > GiB)
    return bad_field("kernel_alignment", image.alignment);
  image.preferred_address = field<std::uint64_t>(head, PREF_ADDRESS);
  if (image.preferred_address % page_size != 0 || image.preferred_address < MiB)
    return bad_field("pref_address", image.preferred_address);
  image.init_bytes = field<std::uint32_t>(head, INIT_SIZE);
  if (image.init_bytes < image.payload_bytes) return bad_field("init_size", image.init_bytes);
  image.initrd_address_max = field<std::uint32_t>(head, INITRD_ADDR_MAX);
  image.cmdline_bytes_max = field<std::uint32_t>(head, CMDLINE_SIZE);
  return image;
}

}  // namespace veneer::boot
