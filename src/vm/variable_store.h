// The file in which UEFI firmware's variables live on when their machine has ended.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "base/result.h"
#include "devices/firmware/flash.h"
#include "disk/host_file.h"

namespace veneer::vm {

/// A plain image of the flash chip, as OVMF_VARS.fd is one. Every change goes to the file before the guest's write
/// returns, in order, so a killed process loses nothing; when the chip settles the file is synced, so that a host
/// that loses power leaves what a chip that loses power would.
class VariableStore final : public devices::FlashStore {
 public:
  /// Opens and locks `path`; where there is no such file it becomes a copy of `first`, all at once. An error when it
  /// holds something else than `first.size()` bytes of flash.
  static Result<std::unique_ptr<VariableStore>> open(const std::string& path, std::span<const std::byte> first);
  ~VariableStore() override;

  /// What the file holds.
  Result<void> read(std::span<std::byte> contents);

  bool write(std::uint64_t offset, std::span<const std::byte> data) override;
  void settle() override;

 private:
  explicit VariableStore(std::unique_ptr<disk::HostFile> file) : file_(std::move(file)) {}
  bool check(const Result<void>& done);
  std::unique_ptr<disk::HostFile> file_;
  bool dirty_ = false;
  bool complained_ = false;
};

/// Whether this begins as a flash chip of UEFI variables does: with the header of a firmware volume (UEFI PI 1.8, vol.
/// 3, 3.2.1).
bool is_variable_image(std::span<const std::byte> contents);

}  // namespace veneer::vm
