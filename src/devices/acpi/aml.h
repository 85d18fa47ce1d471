// Builds the little AML that depends on the machine's configuration: names, packages, resource templates.
//
// Spec: ACPI 6.4, chapter 20 (AML grammar) and 6.4 (resource data types).
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <vector>

namespace veneer::devices::aml {

using Bytes = std::vector<std::uint8_t>;

/// An integer constant in its shortest form.
Bytes integer(std::uint64_t value);
/// A package (at most 255 elements; more make it a VarPackage).
Bytes package(const std::vector<Bytes>& elements);
Bytes buffer(const Bytes& contents);
/// Name (segment, object); `segment` has four characters.
Bytes name(std::string_view segment, const Bytes& object);
/// Scope (path) { contents }; path as "\\_SB_.PCI0": root and dots, segments of four characters.
Bytes scope(std::string_view path, const Bytes& contents);

Bytes concatenate(std::initializer_list<Bytes> parts);

// ---- Resource descriptors (6.4.2, 6.4.3) ------------------------------------------------------------------------
/// Ports that a bridge consumes itself (I/O Port Descriptor).
Bytes resource_io(std::uint16_t first, std::uint8_t count);
/// Windows that a bridge passes on (Address Space Descriptors, producer, fixed): base and size.
Bytes resource_bus_numbers(std::uint16_t first, std::uint16_t last);
Bytes resource_io_window(std::uint16_t base, std::uint32_t bytes);
Bytes resource_memory32_window(std::uint32_t base, std::uint32_t bytes);
Bytes resource_memory64_window(std::uint64_t base, std::uint64_t bytes);
/// The descriptors with an end tag.
Bytes resource_template(const Bytes& descriptors);

}  // namespace veneer::devices::aml
