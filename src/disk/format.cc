// Names of formats.
#include <fmt/format.h>

#include "disk/image.h"

namespace veneer::disk {

std::string_view format_name(Format format) {
  switch (format) {
    case Format::Raw:
      return "raw";
    case Format::Qcow2:
      return "qcow2";
    case Format::Nbd:
      return "nbd";
  }
  return "?";
}

Result<Format> parse_format(std::string_view name) {
  if (name == "raw") return Format::Raw;
  if (name == "qcow2") return Format::Qcow2;
  if (name == "nbd") return Format::Nbd;
  for (const std::string_view other : {"vmdk", "vhdx", "vhd", "vpc", "vdi", "qed", "qcow", "luks", "parallels"})
    if (name == other)
      return Error(
          fmt::format("format {} is not supported. Convert the image (qemu-img convert -O qcow2 OLD NEW), or "
                      "serve it with nbdkit and give its nbd:// address to veneer disk convert",
                      name));
  return Error(fmt::format("\"{}\" is not an image format (known: raw, qcow2)", name));
}

}  // namespace veneer::disk
