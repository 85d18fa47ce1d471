// AML encodings.
#include "devices/acpi/aml.h"

#include "base/assert.h"

namespace veneer::devices::aml {
namespace {

// Opcodes (ACPI 6.4 20.3)
constexpr std::uint8_t ZERO_OP = 0x00;
constexpr std::uint8_t ONE_OP = 0x01;
constexpr std::uint8_t NAME_OP = 0x08;
constexpr std::uint8_t BYTE_PREFIX = 0x0a;
constexpr std::uint8_t WORD_PREFIX = 0x0b;
constexpr std::uint8_t DWORD_PREFIX = 0x0c;
constexpr std::uint8_t QWORD_PREFIX = 0x0e;
constexpr std::uint8_t SCOPE_OP = 0x10;
constexpr std::uint8_t BUFFER_OP = 0x11;
constexpr std::uint8_t PACKAGE_OP = 0x12;
constexpr std::uint8_t VAR_PACKAGE_OP = 0x13;
constexpr std::uint8_t DUAL_NAME_PREFIX = 0x2e;
constexpr std::uint8_t MULTI_NAME_PREFIX = 0x2f;

// Address space descriptors (6.4.3.5)
constexpr std::uint8_t WORD_ADDRESS = 0x88;
constexpr std::uint8_t DWORD_ADDRESS = 0x87;
constexpr std::uint8_t QWORD_ADDRESS = 0x8a;
enum class Space : std::uint8_t { Memory = 0, Io = 1, BusNumber = 2 };
constexpr std::uint8_t FIXED_MIN_MAX = (1u << 2) | (1u << 3);  // general flags: _MIF, _MAF; bit 0 clear: producer
constexpr std::uint8_t MEMORY_READ_WRITE = 1u << 0;
constexpr std::uint8_t MEMORY_PREFETCHABLE = 3u << 1;
constexpr std::uint8_t IO_ENTIRE_RANGE = 3;

void append(Bytes& to, const Bytes& from) { to.insert(to.end(), from.begin(), from.end()); }

void append_value(Bytes& to, std::uint64_t value, unsigned size_bytes) {
  for (unsigned i = 0; i < size_bytes; ++i) to.push_back(static_cast<std::uint8_t>(value >> (8 * i)));
}

/// PkgLength counts itself (20.2.4): one byte up to 63, else a lead byte with the low nibble and one to three more.
Bytes with_length(const Bytes& contents) {
  Bytes out;
  const std::size_t size = contents.size();
  if (size + 1 < 0x40) {
    out.push_back(static_cast<std::uint8_t>(size + 1));
  } else {
    const unsigned more = size + 2 < 0x1000 ? 1 : size + 3 < 0x10'0000 ? 2 : 3;
    const std::size_t length = size + 1 + more;
    VENEER_ASSERT(length < 0x1000'0000);
    out.push_back(static_cast<std::uint8_t>((more << 6) | (length & 0xf)));
    append_value(out, length >> 4, more);
  }
  append(out, contents);
  return out;
}

Bytes segment_bytes(std::string_view segment) {
  VENEER_ASSERT(segment.size() == 4);
  return Bytes(segment.begin(), segment.end());
}

Bytes name_string(std::string_view path) {
  Bytes out;
  if (path.starts_with('\\')) {
    out.push_back('\\');
    path.remove_prefix(1);
  }
  VENEER_ASSERT(path.size() % 5 == 4);
  const std::size_t segments = (path.size() + 1) / 5;
  if (segments == 2) {
    out.push_back(DUAL_NAME_PREFIX);
  } else if (segments > 2) {
    out.push_back(MULTI_NAME_PREFIX);
    out.push_back(static_cast<std::uint8_t>(segments));
  }
  for (std::size_t i = 0; i < segments; ++i) append(out, segment_bytes(path.substr(i * 5, 4)));
  return out;
}

/// Granularity, minimum, maximum, translation, length: each `width` bytes.
Bytes address_space(std::uint8_t tag, unsigned width, Space space, std::uint8_t type_flags, std::uint64_t first,
                    std::uint64_t size) {
  Bytes out{tag};
  append_value(out, 3 + 5 * width, 2);
  out.push_back(static_cast<std::uint8_t>(space));
  out.push_back(FIXED_MIN_MAX);
  out.push_back(type_flags);
  append_value(out, 0, width);
  append_value(out, first, width);
  append_value(out, first + size - 1, width);
  append_value(out, 0, width);
  append_value(out, size, width);
  return out;
}

}  // namespace

Bytes integer(std::uint64_t value) {
  if (value == 0) return {ZERO_OP};
  if (value == 1) return {ONE_OP};
  const bool byte = value <= 0xff, word = value <= 0xffff, dword = value <= 0xffff'ffff;
  Bytes out{byte ? BYTE_PREFIX : word ? WORD_PREFIX : dword ? DWORD_PREFIX : QWORD_PREFIX};
  append_value(out, value, byte ? 1 : word ? 2 : dword ? 4 : 8);
  return out;
}

Bytes package(const std::vector<Bytes>& elements) {
  const bool variable = elements.size() > 255;
  Bytes contents = variable ? integer(elements.size()) : Bytes{static_cast<std::uint8_t>(elements.size())};
  for (const Bytes& element : elements) append(contents, element);
  Bytes out{variable ? VAR_PACKAGE_OP : PACKAGE_OP};
  append(out, with_length(contents));
  return out;
}

Bytes buffer(const Bytes& contents) {
  Bytes body = integer(contents.size());
  append(body, contents);
  Bytes out{BUFFER_OP};
  append(out, with_length(body));
  return out;
}

Bytes name(std::string_view segment, const Bytes& object) {
  Bytes out{NAME_OP};
  append(out, segment_bytes(segment));
  append(out, object);
  return out;
}

Bytes scope(std::string_view path, const Bytes& contents) {
  Bytes body = name_string(path);
  append(body, contents);
  Bytes out{SCOPE_OP};
  append(out, with_length(body));
  return out;
}

Bytes concatenate(std::initializer_list<Bytes> parts) {
  Bytes out;
  for (const Bytes& part : parts) append(out, part);
  return out;
}

Bytes resource_io(std::uint16_t first, std::uint8_t count) {
  Bytes out{0x47, 0x01};  // small item, type 8, 7 bytes; decodes 16 bits
  append_value(out, first, 2);
  append_value(out, first, 2);
  out.push_back(1);  // alignment
  out.push_back(count);
  return out;
}

Bytes resource_bus_numbers(std::uint16_t first, std::uint16_t last) {
  return address_space(WORD_ADDRESS, 2, Space::BusNumber, 0, first, last - first + 1u);
}

Bytes resource_io_window(std::uint16_t base, std::uint32_t bytes) {
  return address_space(WORD_ADDRESS, 2, Space::Io, IO_ENTIRE_RANGE, base, bytes);
}

Bytes resource_memory32_window(std::uint32_t base, std::uint32_t bytes) {
  return address_space(DWORD_ADDRESS, 4, Space::Memory, MEMORY_READ_WRITE, base, bytes);
}

Bytes resource_memory64_window(std::uint64_t base, std::uint64_t bytes) {
  return address_space(QWORD_ADDRESS, 8, Space::Memory, MEMORY_READ_WRITE | MEMORY_PREFETCHABLE, base, bytes);
}

Bytes resource_template(const Bytes& descriptors) {
  Bytes out = descriptors;
  out.push_back(0x79);  // end tag
  out.push_back(0);     // checksum 0: not used
  return buffer(out);
}

}  // namespace veneer::devices::aml
