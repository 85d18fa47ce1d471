// Making SMBIOS structures; section numbers are those of DSP0134 3.6.
#include "devices/firmware/smbios.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

namespace veneer::devices {
namespace {

/// Handles: the type, and a number for those of which there are several.
constexpr std::uint16_t handle_of(std::uint8_t type, unsigned number = 0) {
  return static_cast<std::uint16_t>(type * 0x100 + number);
}
enum Type : std::uint8_t {
  BIOS = 0,
  SYSTEM = 1,
  CHASSIS = 3,
  PROCESSOR = 4,
  MEMORY_ARRAY = 16,
  MEMORY_DEVICE = 17,
  MEMORY_RANGE = 19,
  BOOT = 32,
  END = 127,
};
constexpr std::uint64_t largest_module_bytes = 16 * GiB;
constexpr std::uint16_t no_handle = 0xfffe;

/// Structures, one behind the other: fixed fields, then the strings that they number (6.1).
class Tables {
 public:
  void begin(Type type, unsigned number = 0) {
    start_ = bytes_.size();
    put<std::uint8_t>(type);
    put<std::uint8_t>(0);  // its length, later
    put<std::uint16_t>(handle_of(type, number));
    strings_.clear();
  }
  template <typename T>
  void put(T value) {
    const auto* raw = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), raw, raw + sizeof value);
  }
  void put_bytes(std::initializer_list<std::uint8_t> values) {
    for (const std::uint8_t value : values) put(value);
  }
  /// A field that names a string; an empty one is none.
  void put_text(std::string_view text) {
    if (!text.empty()) strings_.emplace_back(text);
    put(static_cast<std::uint8_t>(text.empty() ? 0 : strings_.size()));
  }
  void end() {
    bytes_[start_ + 1] = static_cast<std::byte>(bytes_.size() - start_);
    for (const std::string& text : strings_) {
      for (const char c : text) put(c);
      put('\0');
    }
    if (strings_.empty()) put('\0');
    put('\0');
    largest_ = std::max(largest_, bytes_.size() - start_);
    ++count_;
  }
  std::vector<std::byte> take() { return std::move(bytes_); }
  std::size_t size_bytes() const { return bytes_.size(); }
  std::uint16_t count() const { return count_; }
  std::uint16_t largest() const { return static_cast<std::uint16_t>(largest_); }

 private:
  std::vector<std::byte> bytes_;
  std::uint16_t count_ = 0;
  std::size_t largest_ = 0;
  std::size_t start_ = 0;
  std::vector<std::string> strings_;
};

/// 7.1
void add_bios(Tables& t, const SmbiosPlatform& p) {
  t.begin(BIOS);
  t.put_text("Veneer");
  t.put_text(p.version);
  t.put<std::uint16_t>(0xe000);  // where it would be
  t.put_text("01/01/2026");
  t.put<std::uint8_t>(0);        // 64 KiB
  t.put<std::uint64_t>(1 << 3);  // characteristics are not given
  t.put_bytes({0x01, 0x10});     // ACPI; a virtual machine
  t.put_bytes({0xff, 0xff, 0xff, 0xff});
  t.end();
}

/// 7.2. The first three fields of a UUID are little-endian here (7.2.1).
void add_system(Tables& t, const SmbiosPlatform& p) {
  t.begin(SYSTEM);
  t.put_text("Veneer");
  t.put_text("Standard PC (i440FX + PIIX)");
  t.put_text(p.version);
  t.put_text({});  // serial number
  for (const unsigned i : {3u, 2u, 1u, 0u, 5u, 4u, 7u, 6u, 8u, 9u, 10u, 11u, 12u, 13u, 14u, 15u}) t.put(p.uuid[i]);
  t.put<std::uint8_t>(6);  // woken up by the power switch
  t.put_text({});          // SKU
  t.put_text("Virtual Machine");
  t.end();
}

/// 7.4
void add_chassis(Tables& t, const SmbiosPlatform& p) {
  t.begin(CHASSIS);
  t.put_text("Veneer");
  t.put<std::uint8_t>(1);  // other
  t.put_text(p.version);
  t.put_text({});
  t.put_text({});
  t.put_bytes({3, 3, 3, 2});     // safe; security unknown
  t.put<std::uint32_t>(0);       // OEM
  t.put_bytes({0, 0, 0, 0, 0});  // height, cords, contained elements; SKU
  t.end();
}

/// 7.5
void add_processor(Tables& t, const SmbiosPlatform& p) {
  t.begin(PROCESSOR);
  t.put_text("CPU 0");
  t.put_bytes({3, 1});  // a central processor, of another family
  t.put_text(p.cpu_vendor);
  t.put(p.cpu_signature);
  t.put(p.cpu_features);
  t.put_text(p.cpu_brand);
  t.put<std::uint8_t>(0);   // voltage
  t.put<std::uint16_t>(0);  // external clock
  const auto mhz = static_cast<std::uint16_t>(std::min<std::uint32_t>(p.cpu_mhz, 0xffff));
  t.put(mhz);
  t.put(mhz);
  t.put_bytes({0x41, 1});        // there and enabled; another kind of socket
  t.put<std::uint16_t>(0xffff);  // no structures about caches: CPUID has them
  t.put<std::uint16_t>(0xffff);
  t.put<std::uint16_t>(0xffff);
  t.put_text({});
  t.put_text({});
  t.put_text({});
  const auto cores = static_cast<std::uint8_t>(std::min(p.cpus, 255u));
  t.put_bytes({cores, cores, cores});
  t.put<std::uint16_t>(1 << 2 | (p.cpus > 1 ? 1 << 3 : 0));  // 64 bits, several cores
  t.put<std::uint16_t>(1);
  t.end();
}

/// 7.17 to 7.20
void add_memory(Tables& t, const SmbiosPlatform& p) {
  const std::uint64_t total = p.memory_below_4g + p.memory_above_4g;
  const auto modules = static_cast<std::uint16_t>((total + largest_module_bytes - 1) / largest_module_bytes);
  t.begin(MEMORY_ARRAY);
  t.put_bytes({1, 3, 6});            // elsewhere; system memory; errors corrected in several bits
  t.put<std::uint32_t>(0x80000000);  // see the extended field
  t.put(no_handle);
  t.put(modules);
  t.put(total);
  t.end();

  std::uint64_t left = total;
  for (unsigned i = 0; i < modules; ++i) {
    const std::uint64_t size = std::min(left, largest_module_bytes);
    left -= size;
    t.begin(MEMORY_DEVICE, i);
    t.put(handle_of(MEMORY_ARRAY));
    t.put(no_handle);
    t.put<std::uint16_t>(64);
    t.put<std::uint16_t>(64);
    t.put(static_cast<std::uint16_t>(size / MiB));
    t.put_bytes({9, 0});  // DIMM, of no set
    t.put_text("DIMM " + std::to_string(i));
    t.put_bytes({0, 7});           // no bank; RAM
    t.put<std::uint16_t>(1 << 1);  // other
    t.put<std::uint16_t>(0);       // speed unknown
    t.put_text("Veneer");
    t.put_bytes({0, 0, 0, 0});  // serial number, asset tag, part number; rank unknown
    t.put<std::uint32_t>(0);
    t.put<std::uint16_t>(0);
    for (int voltage = 0; voltage < 3; ++voltage) t.put<std::uint16_t>(0);
    t.end();
  }

  const auto range = [&](unsigned number, std::uint64_t from, std::uint64_t bytes) {
    if (bytes == 0) return;
    t.begin(MEMORY_RANGE, number);
    t.put<std::uint32_t>(0xffffffff);  // see the extended fields
    t.put<std::uint32_t>(0xffffffff);
    t.put(handle_of(MEMORY_ARRAY));
    t.put(static_cast<std::uint8_t>(1));
    t.put(from);
    t.put(from + bytes - 1);
    t.end();
  };
  range(0, 0, p.memory_below_4g);
  range(1, 4 * GiB, p.memory_above_4g);
}

template <typename T>
void set(std::vector<std::byte>& bytes, std::size_t offset, T value) {
  std::memcpy(bytes.data() + offset, &value, sizeof value);
}

/// Makes the bytes of [from, to) add up to zero.
void set_checksum(std::vector<std::byte>& bytes, std::size_t at, std::size_t from, std::size_t to) {
  unsigned sum = 0;
  for (std::size_t i = from; i < to; ++i) sum += std::to_integer<unsigned>(bytes[i]);
  bytes[at] = static_cast<std::byte>(-sum);
}

/// 5.2.1
std::vector<std::byte> make_anchor(const Tables& t, GuestPhys address) {
  std::vector<std::byte> anchor(0x1f);
  std::memcpy(anchor.data(), "_SM_", 4);
  set<std::uint8_t>(anchor, 0x05, 0x1f);
  set<std::uint8_t>(anchor, 0x06, 2);
  set<std::uint8_t>(anchor, 0x07, 8);
  set(anchor, 0x08, t.largest());
  std::memcpy(anchor.data() + 0x10, "_DMI_", 5);
  set(anchor, 0x16, static_cast<std::uint16_t>(t.size_bytes()));
  set(anchor, 0x18, static_cast<std::uint32_t>(address.value));
  set(anchor, 0x1c, t.count());
  set<std::uint8_t>(anchor, 0x1e, 0x28);
  set_checksum(anchor, 0x15, 0x10, 0x1f);
  set_checksum(anchor, 0x04, 0, 0x1f);
  return anchor;
}

}  // namespace

SmbiosTables build_smbios(const SmbiosPlatform& platform, GuestPhys address) {
  Tables t;
  if (platform.bios) add_bios(t, platform);
  add_system(t, platform);
  add_chassis(t, platform);
  add_processor(t, platform);
  add_memory(t, platform);
  t.begin(BOOT);  // 7.33
  t.put_bytes({0, 0, 0, 0, 0, 0, 0});
  t.end();
  t.begin(END);
  t.end();
  return {make_anchor(t, address), t.take()};
}

}  // namespace veneer::devices
