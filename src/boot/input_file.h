// A file that the user named, opened for loading into guest memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/fd.h"
#include "base/result.h"
#include "base/units.h"
#include "machine/guest_memory.h"

namespace veneer::boot {

/// A regular file. Errors do not name the file: the caller knows what it is for and puts that in front.
class InputFile {
 public:
  static Result<InputFile> open(const std::string& path);

  std::uint64_t size_bytes() const { return size_bytes_; }
  /// Reads as much of `out` as the file has from `offset` on; gives the number of bytes.
  Result<std::size_t> read(std::uint64_t offset, std::span<std::byte> out) const;
  /// Copies [offset, offset + size_bytes) of the file to guest memory. All of it must be there, in file and memory.
  Result<void> copy_to(machine::GuestMemory& memory, GuestPhys address, std::uint64_t offset,
                       std::uint64_t size_bytes) const;

 private:
  Fd fd_;
  std::uint64_t size_bytes_ = 0;
};

}  // namespace veneer::boot
