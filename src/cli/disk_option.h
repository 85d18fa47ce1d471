// The value of --disk: a path, then what is to be different from usual.
#pragma once

#include <string>

#include "base/result.h"
#include "vm/config.h"

namespace veneer::cli {

/// A CD-ROM drive: "disc.iso", "disc.iso,if=ahci". A file of that name goes before what is behind a comma.
Result<vm::DiskConfig> parse_cdrom(const std::string& text);

/// A floppy drive with that disk in it, write-protected if the file may not be written.
vm::DiskConfig floppy_drive(std::string path);

/// "disk.qcow2,format=qcow2,readonly,queues=4". A comma in the path is written twice.
Result<vm::DiskConfig> parse_disk(const std::string& text);

/// For --help: every key with its values.
extern const char* const disk_option_help;

}  // namespace veneer::cli
