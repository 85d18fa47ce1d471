// RegisterWindow: what a bus sees of a device whose registers are only a part of it.
#pragma once

#include <cstdint>

#include "machine/device.h"

namespace veneer::machine {

/// Passes accesses on to two members of its owner, which resets and saves itself.
template <typename Owner>
class RegisterWindow final : public Device {
 public:
  using Read = std::uint64_t (Owner::*)(std::uint64_t offset, unsigned size_bytes);
  using Write = void (Owner::*)(std::uint64_t offset, unsigned size_bytes, std::uint64_t value);
  RegisterWindow(Owner& owner, Read reader, Write writer) : owner_(owner), read_(reader), write_(writer) {}

  std::uint64_t read(std::uint64_t offset, unsigned size_bytes) override { return (owner_.*read_)(offset, size_bytes); }
  void write(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) override {
    (owner_.*write_)(offset, size_bytes, value);
  }
  void save(SnapshotWriter&) const override {}
  void restore(SnapshotReader&) override {}
  void reset() override {}

 private:
  Owner& owner_;
  const Read read_;
  const Write write_;
};

}  // namespace veneer::machine
