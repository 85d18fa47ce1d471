// Which format a file's first bytes look like.
#include "disk/probe.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace veneer::disk {
namespace {

struct Magic {
  std::size_t offset;
  std::string_view bytes;
  const char* name;  ///< null: qcow2
};

using namespace std::string_view_literals;
constexpr std::array<Magic, 9> magics = {{
    {0, "QFI\xfb"sv, nullptr},
    {0, "KDMV"sv, "VMDK"},
    {0, "COWD"sv, "VMDK"},
    {0, "# Disk DescriptorFile"sv, "VMDK"},
    {0, "vhdxfile"sv, "VHDX"},
    {0, "conectix"sv, "VHD (VPC)"},
    {0, "QED\0"sv, "QED"},
    {0, "LUKS\xba\xbe"sv, "LUKS"},
    {64, "\x7f\x10\xda\xbe"sv, "VDI"},
}};

const Magic* find_magic(std::span<const std::byte> head) {
  for (const Magic& magic : magics)
    if (head.size() >= magic.offset + magic.bytes.size() &&
        std::memcmp(head.data() + magic.offset, magic.bytes.data(), magic.bytes.size()) == 0)
      return &magic;
  return nullptr;
}

}  // namespace

bool looks_formatted(std::span<const std::byte> head) { return find_magic(head) != nullptr; }

Result<Format> probe_format(std::span<const std::byte> head, const std::string& path) {
  const Magic* magic = find_magic(head);
  if (magic == nullptr) return Format::Raw;
  if (magic->name == nullptr) {
    // Version 1 is another format with the same magic.
    if (head.size() >= 8 && head[4] == std::byte{0} && head[5] == std::byte{0} && head[6] == std::byte{0} &&
        head[7] == std::byte{1})
      return Error(fmt::format("{} is a qcow image of version 1, which Veneer does not open. Convert it: "
                               "qemu-img convert -O qcow2 {} new.qcow2",
                               path, path))
          .with_code(ENOTSUP);
    return Format::Qcow2;
  }
  if (std::string_view(magic->name) == "LUKS")
    return Error(fmt::format("{} is an encrypted (LUKS) disk, which Veneer does not decrypt. If the guest itself shall "
                             "decrypt it, say that its format is raw",
                             path))
        .with_code(ENOTSUP);
  return Error(fmt::format(
                   "{} is a {} image, which Veneer does not open. Convert it (qemu-img convert -O qcow2 {} new.qcow2), "
                   "or serve it with nbdkit and give its nbd:// address to veneer disk convert",
                   path, magic->name, path))
      .with_code(ENOTSUP);
}

}  // namespace veneer::disk
