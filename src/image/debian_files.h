// What a Debian image gets besides its packages: configuration files, and the commands that run inside it.
#pragma once

#include <string>
#include <vector>

#include "image/debian.h"
#include "image/guid.h"

namespace veneer::image {

/// What the file systems are called.
struct DiskNames {
  Guid root;                 ///< of the ext4 file system
  std::uint32_t efi_serial;  ///< of the EFI system partition's
  std::string efi_uuid() const;
};

struct SystemFile {
  std::string path;  ///< from the root, without a slash in front
  std::string content;
};

std::vector<SystemFile> debian_files(const DebianOptions& options, const DiskNames& names);

/// A shell script for the system's own shell, run in it as root: users, keys, GRUB's images in /boot/grub.
std::string debian_script(const DebianOptions& options, const DiskNames& names);

/// The packages that are installed besides those of the variant.
std::vector<std::string> debian_packages(const DebianOptions& options);

/// Lines for sources.list. `index_targets` has lines "URI RELEASE COMPONENT" of the host's apt.
std::vector<std::string> debian_sources(const DebianOptions& options, const std::string& index_targets);

}  // namespace veneer::image
