// The registers that gdb sees: the table, and access to ArchState.
#include "debug/gdb/registers.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace veneer::debug::gdb {
namespace {

using Place = Register::Place;

// Names of the features gdb knows (gdb manual G.5.5), and one of our own that it shows as it is.
constexpr const char* core_feature = "org.gnu.gdb.i386.core";
constexpr const char* sse_feature = "org.gnu.gdb.i386.sse";
constexpr const char* avx_feature = "org.gnu.gdb.i386.avx";
constexpr const char* segments_feature = "org.gnu.gdb.i386.segments";
constexpr const char* system_feature = "org.veneer.system";

// The XSAVE image's standard format (SDM 1 13.4, 10.5.1.1).
constexpr std::size_t xsave_fcw = 0;
constexpr std::size_t xsave_fsw = 2;
constexpr std::size_t xsave_ftw = 4;
constexpr std::size_t xsave_fop = 6;
constexpr std::size_t xsave_fip = 8;
constexpr std::size_t xsave_fdp = 16;
constexpr std::size_t xsave_mxcsr = 24;
constexpr std::size_t xsave_st = 32;
constexpr std::size_t xsave_xmm = 160;
constexpr std::size_t xsave_bv = 512;
constexpr std::size_t xsave_ymm_high = 576;
constexpr std::uint64_t component_x87 = 1;
constexpr std::uint64_t component_sse = 2;
constexpr std::uint64_t component_avx = 4;

template <typename T>
T load(const cpu::ArchState& state, std::size_t offset) {
  T value;
  std::memcpy(&value, state.xsave.data() + offset, sizeof(value));
  return value;
}
template <typename T>
void store(cpu::ArchState& state, std::size_t offset, T value) {
  std::memcpy(state.xsave.data() + offset, &value, sizeof(value));
}

/// A component in its initial configuration is not in the image (XSTATE_BV, SDM 1 13.4.2): put its initial state there.
void materialize(cpu::ArchState& state, std::uint64_t component) {
  const auto present = load<std::uint64_t>(state, xsave_bv);
  if ((present & component) != 0) return;
  auto* area = state.xsave.data();
  if (component == component_x87) {
    std::memset(area, 0, xsave_mxcsr);
    std::memset(area + xsave_st, 0, xsave_xmm - xsave_st);
    store<std::uint16_t>(state, xsave_fcw, 0x37f);
  } else if (component == component_sse) {
    std::memset(area + xsave_xmm, 0, 16 * 16);
  } else {
    std::memset(area + xsave_ymm_high, 0, 16 * 16);
  }
  store(state, xsave_bv, present | component);
}

std::uint64_t component_of(Place place) {
  switch (place) {
    case Place::St:
    case Place::X87Control:
      return component_x87;
    case Place::Xmm:
      return component_sse;
    case Place::YmmHigh:
      return component_avx;
    default:
      return 0;
  }
}

/// The two-bit tag of FSTENV from a register's value (SDM 1 8.1.7): 0 valid, 1 zero, 2 special.
unsigned x87_tag(const cpu::ArchState& state, unsigned st) {
  const auto significand = load<std::uint64_t>(state, xsave_st + 16 * st);
  const unsigned exponent = load<std::uint16_t>(state, xsave_st + 16 * st + 8) & 0x7fffu;
  if (exponent == 0x7fff) return 2;
  if (exponent == 0) return significand == 0 ? 1 : 2;
  return (significand >> 63) != 0 ? 0 : 2;
}

/// The full tag word from the abridged one, which has one bit per physical register (SDM 1 10.5.1.1).
std::uint16_t full_tag_word(const cpu::ArchState& state) {
  const unsigned top = load<std::uint16_t>(state, xsave_fsw) >> 11 & 7u;
  const auto abridged = load<std::uint8_t>(state, xsave_ftw);
  unsigned word = 0;
  for (unsigned physical = 0; physical < 8; ++physical) {
    const bool used = (abridged >> physical & 1u) != 0;
    word |= (used ? x87_tag(state, (physical - top) & 7u) : 3u) << (2 * physical);
  }
  return static_cast<std::uint16_t>(word);
}

std::uint8_t abridged_tag_word(std::uint16_t full) {
  unsigned word = 0;
  for (unsigned physical = 0; physical < 8; ++physical)
    if ((full >> (2 * physical) & 3u) != 3u) word |= 1u << physical;
  return static_cast<std::uint8_t>(word);
}

std::uint32_t read_x87_control(const cpu::ArchState& state, unsigned index) {
  switch (index) {
    case 0:
      return load<std::uint16_t>(state, xsave_fcw);
    case 1:
      return load<std::uint16_t>(state, xsave_fsw);
    case 2:
      return full_tag_word(state);
    case 3:
      return load<std::uint16_t>(state, xsave_fip + 4);
    case 4:
      return load<std::uint32_t>(state, xsave_fip);
    case 5:
      return load<std::uint16_t>(state, xsave_fdp + 4);
    case 6:
      return load<std::uint32_t>(state, xsave_fdp);
    default:
      return load<std::uint16_t>(state, xsave_fop);
  }
}

void write_x87_control(cpu::ArchState& state, unsigned index, std::uint32_t value) {
  const auto half = static_cast<std::uint16_t>(value);
  switch (index) {
    case 0:
      return store(state, xsave_fcw, half);
    case 1:
      return store(state, xsave_fsw, half);
    case 2:
      return store(state, xsave_ftw, abridged_tag_word(half));
    case 3:
      return store(state, xsave_fip + 4, half);
    case 4:
      return store(state, xsave_fip, value);
    case 5:
      return store(state, xsave_fdp + 4, half);
    case 6:
      return store(state, xsave_fdp, value);
    default:
      return store(state, xsave_fop, static_cast<std::uint16_t>(half & 0x7ffu));
  }
}

std::uint64_t& control_register(cpu::ArchState& state, unsigned index) {
  switch (index) {
    case 0:
      return state.cr0;
    case 2:
      return state.cr2;
    case 3:
      return state.cr3;
    case 4:
      return state.cr4;
    default:
      return state.cr8;
  }
}

/// A register that is one integer of ArchState; null when it is something else.
std::uint64_t* integer_of(cpu::ArchState& state, const Register& reg) {
  switch (reg.place) {
    case Place::Gpr:
      return &state.gpr[reg.index];
    case Place::Rip:
      return &state.rip;
    case Place::Eflags:
      return &state.rflags;
    case Place::SegmentBase:
      return &state.segments[reg.index].base;
    case Place::KernelGsBase:
      return &state.kernel_gs_base;
    case Place::Cr:
      return &control_register(state, reg.index);
    case Place::Efer:
      return &state.efer;
    default:
      return nullptr;
  }
}

/// Where a vector or x87 data register lies in the XSAVE image.
std::size_t area_offset(const Register& reg) {
  switch (reg.place) {
    case Place::St:
      return xsave_st + 16 * reg.index;
    case Place::Xmm:
      return xsave_xmm + 16 * reg.index;
    case Place::YmmHigh:
      return xsave_ymm_high + 16 * reg.index;
    default:
      return xsave_mxcsr;
  }
}

std::vector<Register> make_table() {
  std::vector<Register> table;
  struct NamedGpr {
    const char* name;
    cpu::Gpr gpr;
  };
  // gdb's order, which is not the encoding order.
  static constexpr std::array<NamedGpr, 8> low_gprs = {{{"rax", cpu::RAX},
                                                        {"rbx", cpu::RBX},
                                                        {"rcx", cpu::RCX},
                                                        {"rdx", cpu::RDX},
                                                        {"rsi", cpu::RSI},
                                                        {"rdi", cpu::RDI},
                                                        {"rbp", cpu::RBP},
                                                        {"rsp", cpu::RSP}}};
  for (const NamedGpr& gpr : low_gprs) {
    const bool pointer = gpr.gpr == cpu::RBP || gpr.gpr == cpu::RSP;
    table.push_back({gpr.name, 8, pointer ? "data_ptr" : "int64", core_feature, Place::Gpr, gpr.gpr});
  }
  for (unsigned i = cpu::R8; i <= cpu::R15; ++i)
    table.push_back({fmt::format("r{}", i), 8, "int64", core_feature, Place::Gpr, i});
  table.push_back({"rip", 8, "code_ptr", core_feature, Place::Rip, 0});
  table.push_back({"eflags", 4, "flags32", core_feature, Place::Eflags, 0});
  struct NamedSegment {
    const char* name;
    cpu::SegReg segment;
  };
  static constexpr std::array<NamedSegment, 6> segments = {
      {{"cs", cpu::CS}, {"ss", cpu::SS}, {"ds", cpu::DS}, {"es", cpu::ES}, {"fs", cpu::FS}, {"gs", cpu::GS}}};
  for (const NamedSegment& segment : segments)
    table.push_back({segment.name, 4, "int32", core_feature, Place::Selector, segment.segment});
  for (unsigned i = 0; i < 8; ++i)
    table.push_back({fmt::format("st{}", i), 10, "i387_ext", core_feature, Place::St, i});
  static constexpr std::array<const char*, 8> x87_names = {"fctrl", "fstat", "ftag",  "fiseg",
                                                           "fioff", "foseg", "fooff", "fop"};
  for (unsigned i = 0; i < 8; ++i) table.push_back({x87_names[i], 4, "int", core_feature, Place::X87Control, i});
  for (unsigned i = 0; i < 16; ++i)
    table.push_back({fmt::format("xmm{}", i), 16, "vec128", sse_feature, Place::Xmm, i});
  table.push_back({"mxcsr", 4, "int", sse_feature, Place::Mxcsr, 0});
  for (unsigned i = 0; i < 16; ++i)
    table.push_back({fmt::format("ymm{}h", i), 16, "uint128", avx_feature, Place::YmmHigh, i});
  table.push_back({"fs_base", 8, "int", segments_feature, Place::SegmentBase, cpu::FS});
  table.push_back({"gs_base", 8, "int", segments_feature, Place::SegmentBase, cpu::GS});
  table.push_back({"k_gs_base", 8, "int", system_feature, Place::KernelGsBase, 0});
  for (const unsigned i : {0u, 2u, 3u, 4u, 8u})
    table.push_back({fmt::format("cr{}", i), 8, "int", system_feature, Place::Cr, i});
  table.push_back({"efer", 8, "int", system_feature, Place::Efer, 0});
  return table;
}

constexpr const char* flags_type =
    "<flags id=\"flags32\" size=\"4\">"
    "<field name=\"CF\" start=\"0\" end=\"0\"/><field name=\"PF\" start=\"2\" end=\"2\"/>"
    "<field name=\"AF\" start=\"4\" end=\"4\"/><field name=\"ZF\" start=\"6\" end=\"6\"/>"
    "<field name=\"SF\" start=\"7\" end=\"7\"/><field name=\"TF\" start=\"8\" end=\"8\"/>"
    "<field name=\"IF\" start=\"9\" end=\"9\"/><field name=\"DF\" start=\"10\" end=\"10\"/>"
    "<field name=\"OF\" start=\"11\" end=\"11\"/><field name=\"NT\" start=\"14\" end=\"14\"/>"
    "<field name=\"RF\" start=\"16\" end=\"16\"/><field name=\"VM\" start=\"17\" end=\"17\"/>"
    "<field name=\"AC\" start=\"18\" end=\"18\"/><field name=\"ID\" start=\"21\" end=\"21\"/></flags>";

constexpr const char* vector_types =
    "<vector id=\"f32x4\" type=\"ieee_single\" count=\"4\"/><vector id=\"f64x2\" type=\"ieee_double\" count=\"2\"/>"
    "<vector id=\"i8x16\" type=\"int8\" count=\"16\"/><vector id=\"i16x8\" type=\"int16\" count=\"8\"/>"
    "<vector id=\"i32x4\" type=\"int32\" count=\"4\"/><vector id=\"i64x2\" type=\"int64\" count=\"2\"/>"
    "<union id=\"vec128\"><field name=\"v4_float\" type=\"f32x4\"/><field name=\"v2_double\" type=\"f64x2\"/>"
    "<field name=\"v16_int8\" type=\"i8x16\"/><field name=\"v8_int16\" type=\"i16x8\"/>"
    "<field name=\"v4_int32\" type=\"i32x4\"/><field name=\"v2_int64\" type=\"i64x2\"/>"
    "<field name=\"uint128\" type=\"uint128\"/></union>";

std::string make_xml() {
  std::string out =
      "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target version=\"1.0\">"
      "<architecture>i386:x86-64</architecture>";
  const char* open = nullptr;
  for (const Register& reg : register_table()) {
    if (open == nullptr || std::strcmp(open, reg.feature) != 0) {
      if (open != nullptr) out += "</feature>";
      open = reg.feature;
      out += fmt::format("<feature name=\"{}\">", open);
      if (std::strcmp(open, core_feature) == 0) out += flags_type;
      if (std::strcmp(open, sse_feature) == 0) out += vector_types;
    }
    out += fmt::format("<reg name=\"{}\" bitsize=\"{}\" type=\"{}\"/>", reg.name, reg.bytes * 8, reg.type);
  }
  return out + "</feature></target>";
}

}  // namespace

const std::vector<Register>& register_table() {
  static const std::vector<Register> table = make_table();
  return table;
}

const std::string& target_xml() {
  static const std::string xml = make_xml();
  return xml;
}

std::vector<std::uint8_t> read_register(const cpu::ArchState& state, const Register& reg) {
  cpu::ArchState copy = state;  // a debugger's pace: simplicity wins
  if (const std::uint64_t component = component_of(reg.place); component != 0) materialize(copy, component);
  std::vector<std::uint8_t> out(reg.bytes);
  if (const std::uint64_t* integer = integer_of(copy, reg)) {
    std::memcpy(out.data(), integer, std::min<std::size_t>(out.size(), 8));
  } else if (reg.place == Place::Selector) {
    std::memcpy(out.data(), &copy.segments[reg.index].selector, 2);
  } else if (reg.place == Place::X87Control) {
    const std::uint32_t value = read_x87_control(copy, reg.index);
    std::memcpy(out.data(), &value, 4);
  } else {
    std::memcpy(out.data(), copy.xsave.data() + area_offset(reg), out.size());
  }
  return out;
}

void write_register(cpu::ArchState& state, const Register& reg, const std::uint8_t* value) {
  if (const std::uint64_t component = component_of(reg.place); component != 0) materialize(state, component);
  if (std::uint64_t* integer = integer_of(state, reg)) {
    *integer = 0;
    std::memcpy(integer, value, std::min(reg.bytes, 8u));
    if (reg.place == Place::Eflags) *integer |= cpu::RFLAGS_FIXED1;
  } else if (reg.place == Place::Selector) {
    // The hidden part stays: gdb sends whole register files back, and loading a descriptor is the guest's business.
    std::memcpy(&state.segments[reg.index].selector, value, 2);
  } else if (reg.place == Place::X87Control) {
    std::uint32_t control = 0;
    std::memcpy(&control, value, 4);
    write_x87_control(state, reg.index, control);
  } else {
    std::memcpy(state.xsave.data() + area_offset(reg), value, reg.bytes);
  }
}

}  // namespace veneer::debug::gdb
