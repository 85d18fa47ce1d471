// DmaSpace: guest memory as one bus-mastering function reaches it, directly or through an IOMMU.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "base/units.h"
#include "machine/guest_memory.h"

namespace veneer::machine {

/// What the function does to memory.
enum class DmaAccess : std::uint8_t { Read, Write };

/// The beginning of a buffer, as far as it lies in one piece behind the translation.
struct DmaRun {
  GuestPhys address;
  std::uint64_t bytes = 0;  ///< at least 1
};

/// What stands between functions and memory. All calls with the board lock held.
class DmaTranslator {
 public:
  /// Where [address, address + size_bytes) begins, for the function with this requester ID (bus, device, function:
  /// PCI Express 4.0 2.2.6.2). Nothing when the access is refused; whom that concerns has been told then.
  /// `size_bytes` is not 0.
  virtual std::optional<DmaRun> translate(std::uint16_t requester, std::uint64_t address, std::uint64_t size_bytes,
                                          DmaAccess access) = 0;

 protected:
  ~DmaTranslator() = default;
};

/// A small value that devices keep in place of a reference to the memory. The addresses it takes are those that the
/// driver told the device: guest-physical ones while nothing translates. Board lock held, as for everything in a
/// device.
class DmaSpace {
 public:
  /// Nothing in between. Not explicit: any guest memory can be reached in this way.
  DmaSpace(GuestMemory& memory) : memory_(&memory) {}  // NOLINT(google-explicit-constructor)
  /// Through `translator`, or directly if that is null.
  DmaSpace(GuestMemory& memory, DmaTranslator* translator, std::uint16_t requester)
      : memory_(&memory), translator_(translator), requester_(requester) {}

  /// Something stands in between, whatever it does at the moment.
  bool translated() const { return translator_ != nullptr; }
  GuestMemory& memory() const { return *memory_; }

  std::optional<DmaRun> translate(GuestPhys address, std::uint64_t size_bytes, DmaAccess access) const {
    if (!translator_) return DmaRun{address, size_bytes};
    return translator_->translate(requester_, address.value, size_bytes, access);
  }

  /// As GuestMemory's; across runs a part may have been copied before the answer is false.
  bool read(GuestPhys address, std::span<std::byte> out) const;
  bool write(GuestPhys address, std::span<const std::byte> data) const;
  template <typename T>
  bool read_value(GuestPhys address, T& value) const {
    return read(address, std::as_writable_bytes(std::span(&value, 1)));
  }
  template <typename T>
  bool write_value(GuestPhys address, const T& value) const {
    return write(address, std::as_bytes(std::span(&value, 1)));
  }

  /// Calls piece(guest-physical address, bytes done before, bytes) for each run; false when an access is refused, or
  /// piece says so.
  template <typename Piece>
  bool for_each_run(GuestPhys address, std::uint64_t size_bytes, DmaAccess access, Piece piece) const {
    if (address.value + size_bytes < address.value) return false;
    for (std::uint64_t done = 0; done < size_bytes;) {
      const auto run = translate(address + done, size_bytes - done, access);
      if (!run || !piece(run->address, done, run->bytes)) return false;
      done += run->bytes;
    }
    return true;
  }

 private:
  GuestMemory* memory_;
  DmaTranslator* translator_ = nullptr;
  std::uint16_t requester_ = 0;
};

}  // namespace veneer::machine
