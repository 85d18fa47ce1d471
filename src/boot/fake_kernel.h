// A synthetic bzImage for tests: a valid header that a test then damages.
#pragma once

#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/units.h"

namespace veneer::boot {

/// Bytes of a kernel file with one setup sector and `payload_bytes` of payload (a multiple of 16), each the low byte
/// of its offset.
class FakeKernel {
 public:
  explicit FakeKernel(std::size_t payload_bytes = 64 * KiB) : bytes_(setup_bytes + payload_bytes) {
    for (std::size_t i = 0; i < payload_bytes; ++i) bytes_[setup_bytes + i] = static_cast<std::byte>(i);
    put<std::uint8_t>(0x1f1, 1);                                                // setup_sects
    put<std::uint32_t>(0x1f4, static_cast<std::uint32_t>(payload_bytes / 16));  // syssize
    put<std::uint16_t>(0x1fe, 0xaa55);                                          // boot_flag
    put<std::uint8_t>(0x201, 0x6a);                                             // header ends at 0x26c
    put<std::uint32_t>(0x202, 0x53726448);                                      // "HdrS"
    put<std::uint16_t>(0x206, 0x020f);                                          // version
    put<std::uint8_t>(0x211, 1);                                                // LOADED_HIGH
    put<std::uint32_t>(0x22c, 0x7fffffff);                                      // initrd_addr_max
    put<std::uint32_t>(0x230, 0x200000);                                        // kernel_alignment
    put<std::uint8_t>(0x234, 1);                                                // relocatable_kernel
    put<std::uint16_t>(0x236, 1);                                               // XLF_KERNEL_64
    put<std::uint32_t>(0x238, 2047);                                            // cmdline_size
    put<std::uint64_t>(0x258, 0x1000000);                                       // pref_address
    put<std::uint32_t>(0x260, 0x100000);                                        // init_size
  }
  static constexpr std::size_t setup_bytes = 1024;

  template <typename T>
  void put(std::size_t offset, T value) {
    std::memcpy(bytes_.data() + offset, &value, sizeof value);
  }
  std::vector<std::byte>& bytes() { return bytes_; }
  std::span<const std::byte> head() const {
    return std::span(bytes_).first(bytes_.size() < 0x1000 ? bytes_.size() : 0x1000);
  }

 private:
  std::vector<std::byte> bytes_;
};

/// A file with these bytes that goes away with the object.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::span<const std::byte> bytes) {
    char name[] = "/tmp/veneer-test-XXXXXX";
    const Fd fd(::mkstemp(name));
    path_ = name;
    for (std::size_t done = 0; done < bytes.size();) {
      const ssize_t put = ::write(fd.get(), bytes.data() + done, bytes.size() - done);
      if (put <= 0) std::abort();
      done += static_cast<std::size_t>(put);
    }
  }
  ~TemporaryFile() { ::unlink(path_.c_str()); }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace veneer::boot
