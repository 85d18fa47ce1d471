// Byte streams in which devices save and from which they restore their state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>
#include <vector>

namespace veneer::machine {

/// Appends plain values to a byte vector. Sections carry a name so that a mismatch is found where it happens.
class SnapshotWriter {
 public:
  void section(std::string_view name) {
    put(static_cast<std::uint32_t>(name.size()));
    bytes(std::as_bytes(std::span(name.data(), name.size())));
  }
  template <typename T>
  requires std::is_trivially_copyable_v<T>
  void put(const T& value) { bytes(std::as_bytes(std::span(&value, 1))); }
  void bytes(std::span<const std::byte> data) { data_.insert(data_.end(), data.begin(), data.end()); }
  const std::vector<std::byte>& data() const { return data_; }

 private:
  std::vector<std::byte> data_;
};

/// Reads what SnapshotWriter wrote. After any mismatch or truncation ok() is false and values read are zero.
class SnapshotReader {
 public:
  explicit SnapshotReader(std::span<const std::byte> data) : data_(data) {}

  void section(std::string_view name) {
    const auto size = get<std::uint32_t>();
    if (!ok_ || size != name.size() || size > data_.size() || std::memcmp(data_.data(), name.data(), size) != 0) {
      fail();
      return;
    }
    data_ = data_.subspan(size);
  }
  template <typename T>
  requires std::is_trivially_copyable_v<T> T get() {
    T value{};
    bytes(std::as_writable_bytes(std::span(&value, 1)));
    return value;
  }
  template <typename T>
  requires std::is_trivially_copyable_v<T>
  void get(T& value) { value = get<T>(); }
  void bytes(std::span<std::byte> out) {
    if (out.empty()) return;  // its pointer may be null, which memcpy must not be given
    if (!ok_ || out.size() > data_.size()) {
      fail();
      std::memset(out.data(), 0, out.size());
      return;
    }
    std::memcpy(out.data(), data_.data(), out.size());
    data_ = data_.subspan(out.size());
  }
  /// Bytes not read yet.
  std::size_t left() const { return data_.size(); }
  void fail() { ok_ = false; }
  bool ok() const { return ok_; }

 private:
  std::span<const std::byte> data_;
  bool ok_ = true;
};

}  // namespace veneer::machine
