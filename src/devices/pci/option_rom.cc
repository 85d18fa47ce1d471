// Walking the images of an expansion ROM (PCI Firmware Specification 3.0, 5.1.2 and 5.1.3).
#include "devices/pci/option_rom.h"

#include <cstring>
#include <optional>

namespace veneer::devices {
namespace {

// Header of an image, from its start
constexpr std::size_t SIGNATURE = 0x00, CHECKSUM_SPARE = 0x06, DATA_POINTER = 0x18;
// PCI data structure, from its start
constexpr std::size_t DATA_VENDOR = 0x04, DATA_DEVICE = 0x06, IMAGE_LENGTH = 0x10, CODE_TYPE = 0x14, INDICATOR = 0x15;
constexpr std::size_t data_bytes = 0x18, unit_bytes = 512;
constexpr std::uint8_t CODE_TYPE_PC = 0, LAST_IMAGE = 0x80;

std::uint16_t load16(std::span<const std::byte> bytes, std::size_t at) {
  std::uint16_t value = 0;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

struct Image {
  std::size_t start, data, bytes;
  bool last;
};

std::optional<Image> image_at(std::span<const std::byte> rom, std::size_t start) {
  if (rom.size() < start + unit_bytes || load16(rom, start + SIGNATURE) != 0xaa55) return std::nullopt;
  const std::size_t data = start + load16(rom, start + DATA_POINTER);
  if (data + data_bytes > rom.size() || std::memcmp(rom.data() + data, "PCIR", 4) != 0) return std::nullopt;
  const std::size_t bytes = load16(rom, data + IMAGE_LENGTH) * unit_bytes;
  if (bytes == 0 || bytes > rom.size() - start) return std::nullopt;
  return Image{start, data, bytes, (std::to_integer<unsigned>(rom[data + INDICATOR]) & LAST_IMAGE) != 0};
}

}  // namespace

Result<void> check_option_rom(std::span<const std::byte> rom) {
  for (std::size_t at = 0;;) {
    const auto image = image_at(rom, at);
    if (!image && at == 0) return Error("it is no expansion ROM of a PCI card (55h AAh, then a structure PCIR)");
    if (!image) return Error("one of its images is cut off");
    if (image->last) return {};
    at += image->bytes;
  }
}

void set_rom_device(std::span<std::byte> rom, std::uint16_t vendor, std::uint16_t device) {
  for (std::size_t at = 0;;) {
    const auto image = image_at(rom, at);
    if (!image) return;
    if (load16(rom, image->data + DATA_VENDOR) == vendor) {
      unsigned change = 0;  // of the sum of all bytes, which is 0 in an image that a BIOS takes
      for (std::size_t i = 0; i < 2; ++i) {
        std::byte& field = rom[image->data + DATA_DEVICE + i];
        change += std::to_integer<unsigned>(field) - ((device >> (8 * i)) & 0xffu);
        field = static_cast<std::byte>((device >> (8 * i)) & 0xff);
      }
      // The byte behind the entry's jump, which images keep for their checksum.
      std::byte& spare = rom[image->start + CHECKSUM_SPARE];
      if (std::to_integer<std::uint8_t>(rom[image->data + CODE_TYPE]) == CODE_TYPE_PC)
        spare = static_cast<std::byte>((std::to_integer<unsigned>(spare) + change) & 0xff);
    }
    if (image->last) return;
    at += image->bytes;
  }
}

}  // namespace veneer::devices
