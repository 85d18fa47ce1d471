// From the addresses in the host's x87 pointers back to the guest's. Register-only.
#include "cpu/bt/x87_pointers.h"

#include <algorithm>

#include "cpu/bt/engine_impl.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

constexpr std::uint32_t page_mask32 = ~static_cast<std::uint32_t>(page_offset_mask);

std::uint32_t low_half(std::uint64_t value) { return static_cast<std::uint32_t>(value); }
std::uint32_t low_half(const void* pointer) { return low_half(reinterpret_cast<std::uint64_t>(pointer)); }

/// FLDENV, FLDCW, FNSTENV, FNSTCW; FRSTOR, FNSAVE, FNSTSW: control instructions leave the pointers alone.
bool is_control(unsigned opcode, unsigned modrm) {
  const unsigned reg = (modrm >> 3) & 7;
  return (opcode == 0xd9 && reg >= 4) || (opcode == 0xdd && (reg == 4 || reg >= 6));
}

/// A reader over the bytes of an instruction; what lies behind the last one reads as zero.
class Bytes {
 public:
  Bytes(const std::uint8_t* bytes, unsigned count) : bytes_(bytes), count_(count) {}
  std::uint8_t next() { return at_ < count_ ? bytes_[at_++] : std::uint8_t{0}; }
  std::int64_t displacement(unsigned size) {
    std::uint32_t value = 0;
    for (unsigned i = 0; i < size; i++) value |= std::uint32_t{next()} << (8 * i);
    if (size == 1) return static_cast<std::int8_t>(value);
    if (size == 2) return static_cast<std::int16_t>(value);
    return static_cast<std::int32_t>(value);
  }
  unsigned at() const { return at_; }

 private:
  const std::uint8_t* bytes_;
  unsigned count_, at_ = 0;
};

struct Prefixes {
  unsigned rex = 0;
  bool address_size = false;
  int segment = -1;
};

/// Reads the prefixes; returns the byte behind them.
unsigned read_prefixes(Bytes& in, bool code64, Prefixes& out) {
  for (;;) {
    const unsigned byte = in.next();
    switch (byte) {
      case 0x26:
        if (!code64) out.segment = ES;
        break;
      case 0x2e:
        if (!code64) out.segment = CS;
        break;
      case 0x36:
        if (!code64) out.segment = SS;
        break;
      case 0x3e:
        if (!code64) out.segment = DS;
        break;
      case 0x64:
        out.segment = FS;
        break;
      case 0x65:
        out.segment = GS;
        break;
      case 0x67:
        out.address_size = true;
        break;
      case 0x66:
      case 0xf0:
      case 0xf2:
      case 0xf3:
        break;
      default:
        if (!code64 || (byte & 0xf0) != 0x40) return byte;
        out.rex = byte;  // counts only right in front of the opcode
        continue;
    }
    out.rex = 0;
  }
}

/// SDM 2A table 2-1.
void read_16_bit_address(Bytes& in, unsigned modrm, MemoryOperand& m) {
  static constexpr std::uint8_t bases[8] = {RBX, RBX, RBP, RBP, RSI, RDI, RBP, RBX};
  static constexpr std::uint8_t none = MemoryOperand::none;
  static constexpr std::uint8_t indexes[8] = {RSI, RDI, RSI, RDI, none, none, none, none};
  const unsigned mod = modrm >> 6, rm = modrm & 7;
  m.address_bytes = 2;
  if (mod == 0 && rm == 6) {
    m.displacement = in.displacement(2);
    return;
  }
  m.base = bases[rm];
  m.index = indexes[rm];
  if (mod) m.displacement = in.displacement(mod);
}

/// SDM 2A tables 2-2 and 2-3.
void read_address(Bytes& in, unsigned modrm, const Prefixes& prefixes, bool code64, MemoryOperand& m) {
  const unsigned mod = modrm >> 6;
  unsigned base = modrm & 7;
  bool absolute = mod == 0 && base == 5;
  const bool sib = base == 4;
  if (sib) {
    const unsigned byte = in.next();
    const unsigned index = ((byte >> 3) & 7) | (prefixes.rex & 2 ? 8u : 0u);
    if (index != 4) {
      m.index = static_cast<std::uint8_t>(index);
      m.scale_log2 = static_cast<std::uint8_t>(byte >> 6);
    }
    base = byte & 7;
    absolute = mod == 0 && base == 5;
  }
  if (!absolute) m.base = static_cast<std::uint8_t>(base | (prefixes.rex & 1 ? 8u : 0u));
  if (absolute && code64 && !sib) m.base = MemoryOperand::rip;
  if (absolute || mod == 2)
    m.displacement = in.displacement(4);
  else if (mod == 1)
    m.displacement = in.displacement(1);
}

}  // namespace

bool decode_x87(const std::uint8_t* bytes, unsigned count, Mode mode, unsigned offset, X87Instruction& out) {
  const bool code64 = mode.has(Mode::CODE64);
  Bytes in(bytes, count);
  Prefixes prefixes;
  const unsigned opcode = read_prefixes(in, code64, prefixes);
  if ((opcode & 0xf8) != 0xd8) return false;
  const unsigned modrm = in.next();
  out = X87Instruction{};
  out.opcode = static_cast<std::uint16_t>((opcode & 7) << 8 | modrm);
  if (modrm >= 0xc0) return true;
  out.has_data = !is_control(opcode, modrm);
  MemoryOperand& m = out.operand;
  const bool wide = code64 || mode.has(Mode::CODE32);
  m.address_bytes = code64 ? (prefixes.address_size ? 4 : 8) : wide != prefixes.address_size ? 4 : 2;
  if (m.address_bytes == 2)
    read_16_bit_address(in, modrm, m);
  else
    read_address(in, modrm, prefixes, code64, m);
  if (m.base == MemoryOperand::rip) m.displacement += offset + in.at();
  const bool on_stack = m.base == RSP || m.base == RBP;
  m.segment = static_cast<std::uint8_t>(prefixes.segment >= 0 ? prefixes.segment : on_stack ? int{SS} : int{DS});
  return true;
}

HostX87Pointers BtVcpu::keep_x87_pointers(const X87Pointers& loaded) {
  x87_loaded_ = loaded;
  HostX87Pointers host;
  if (loaded.instruction || loaded.code_selector || loaded.opcode) host.instruction = HostX87Pointers::loaded;
  if (loaded.data || loaded.data_selector) host.data = HostX87Pointers::loaded;
  if (host.instruction || host.data) engine_.expect_x87_pointers_alone();
  return host;
}

/// Where the page of a block lies in the guest's current address space; false when that is not known any more.
bool BtVcpu::linear_page_of(const Block& block, std::uint64_t& page) {
  const Fault kept = fault_;
  CodePageId current;
  const bool here =
      block.mode.regime() == mode.regime() && fetch_page(b->page_address, current) && current == block.page;
  fault_ = kept;
  if (here) {
    page = b->page_address;
    return true;
  }
  const Context& context = contexts_.current();
  const auto regime = static_cast<unsigned>(block.mode.regime());
  for (const FetchEntry& entry : context.fetch[regime]) {
    if (entry.code_page != block.page || entry.page == ~std::uint64_t{0}) continue;
    page = entry.page;
    return true;
  }
  const FillLog& log = context.exec_log[regime];
  const ExecTable& exec = context.exec(block.mode.regime());
  const std::uint32_t expectation = engine_.cache().expectation(block.page);
  for (unsigned i = 0; i < log.count; i++) {
    const std::uint64_t entry = exec.entry[log.slot[i]], address = expectation - entry;
    if (!entry || (address & page_offset_mask) || ((address >> page_shift) & (table_slots - 1)) != log.slot[i])
      continue;
    page = address;
    return true;
  }
  return false;
}

bool BtVcpu::decode_x87_of(const Block& block, unsigned index, X87Instruction& out) {
  constexpr unsigned longest = 15;
  std::uint8_t bytes[longest];
  const auto page_of = [&](CodePageId id) {
    const std::uint64_t page = id & ((std::uint64_t{1} << 40) - 1);
    return reinterpret_cast<const std::uint8_t*>(engine_.memory().slots()[id >> 40]->host + (page << page_shift));
  };
  const unsigned offset = block.side[index].guest_offset;
  unsigned n = 0;
  for (; n < longest && offset + n < page_size; n++) bytes[n] = page_of(block.page)[offset + n];
  if (block.straddles)
    for (unsigned i = 0; n < longest; n++, i++) bytes[n] = page_of(block.second_page)[i];
  return decode_x87(bytes, n, block.mode, offset, out);
}

/// True when the guest address `linear` is at this host address. A walk is for pages that have left the TLB.
bool BtVcpu::is_at_host(Regime regime, std::uint64_t linear, std::uint32_t data, bool walk_for_it) {
  const TlbTable& table = contexts_.current().tlb(regime);
  const auto slot = static_cast<unsigned>(linear >> page_shift) & (table_slots - 1);
  if (table.read_tag[slot] == -(linear & ~page_offset_mask)) return low_half(linear + table.addend[slot]) == data;
  if (!walk_for_it || regime != mode.regime() || ((linear ^ data) & page_offset_mask)) return false;
  const Fault kept = fault_;
  GuestPhys physical;
  bool faulted;
  const HostPtr host = page_pointer(linear, Access::Read, false, physical, faulted);
  fault_ = kept;
  return host && low_half(host) == data;
}

/// The data pointer, if this instruction with the registers as they are now accesses the host address `data`.
bool BtVcpu::x87_data_of(Mode block_mode, std::uint64_t page, const X87Instruction& x87, std::uint32_t data,
                         bool walk_for_it, X87Pointers& out) {
  const MemoryOperand& m = x87.operand;
  MemoryOperand absolute = m;
  if (m.base == MemoryOperand::rip) {
    absolute.base = MemoryOperand::none;
    absolute.displacement = static_cast<std::int64_t>(static_cast<std::uint64_t>(m.displacement) + page);
  }
  const std::uint64_t offset = effective_address(absolute);
  std::uint64_t linear = offset;
  if (!block_mode.has(Mode::CODE64))
    linear = (offset + b->segment_base[m.segment]) & 0xffffffffu;
  else if (m.segment == FS || m.segment == GS)
    linear += b->segment_base[m.segment];
  const bool bounced = linear == bounced_address_ && low_half(bounce_area() + (linear & 63)) == data;
  if (!bounced && !is_at_host(block_mode.regime(), linear, data, walk_for_it)) return false;
  out.data = offset;
  out.data_selector = s.segments[m.segment].selector;
  return true;
}

/// The guest address of a host address in guest RAM or in the bounce buffer.
bool BtVcpu::linear_of_host(Regime regime, std::uint32_t data, std::uint64_t& linear) const {
  if (data - low_half(contexts_.bounce_area()) < bounce_bytes) {
    linear = bounced_address_;
    return low_half(contexts_.bounce_area() + (linear & 63)) == data;
  }
  const Context& context = contexts_.current();
  const TlbTable& table = context.tlb(regime);
  return context.tlb_fills[static_cast<unsigned>(regime)].any_slot([&](unsigned slot) {
    const std::uint64_t page = -table.read_tag[slot];
    if (table.read_tag[slot] == 0 || table.read_tag[slot] == invalid_tag) return false;
    if (low_half(page + table.addend[slot]) != (data & page_mask32)) return false;
    linear = page | (data & page_offset_mask);
    return true;
  });
}

void BtVcpu::find_x87_data(const Block& last, unsigned index, std::uint64_t page, std::uint32_t data,
                           X87Pointers& out) {
  // Mostly it was the last instruction, or one before it, with an address that can still be computed.
  constexpr unsigned max_candidates = 32;
  X87Instruction candidates[max_candidates];
  unsigned n = 0;
  const auto add = [&](const Block& block, unsigned i) {
    n += n < max_candidates && decode_x87_of(block, i, candidates[n]) && candidates[n].has_data;
  };
  for (unsigned i = index + 1; i-- > 0;) add(last, i);
  {
    const CodeLockGuard hold(engine_.cache().lock());
    engine_.cache().for_each_block(last.page, [&](const Block& block) {
      for (unsigned i = block.instructions; i-- > 0;)
        if (&block != &last && block.page == last.page) add(block, i);
    });
  }
  for (unsigned i = 0; i < n; i++)
    if (x87_data_of(last.mode, page, candidates[i], data, false, out)) return;
  const unsigned segment = n ? candidates[0].operand.segment : unsigned{DS};
  // Else the TLB knows where that page is; which segment it was reached through is a guess then.
  std::uint64_t linear;
  if (!linear_of_host(last.mode.regime(), data, linear)) {
    for (unsigned i = 0; i < n; i++)
      if (x87_data_of(last.mode, page, candidates[i], data, true, out)) return;
    return;
  }
  out.data = linear;
  if (!last.mode.has(Mode::CODE64))
    out.data = (linear - b->segment_base[segment]) & 0xffffffffu;
  else if (segment == FS || segment == GS)
    out.data = linear - b->segment_base[segment];
  out.data_selector = s.segments[segment].selector;
}

X87Pointers BtVcpu::x87_pointers(const HostX87Pointers& host) {
  X87Pointers out;
  if (host.data == HostX87Pointers::loaded) {
    out.data = x87_loaded_.data;
    out.data_selector = x87_loaded_.data_selector;
  }
  if (host.instruction == HostX87Pointers::loaded) {
    out.instruction = x87_loaded_.instruction;
    out.code_selector = x87_loaded_.code_selector;
    out.opcode = x87_loaded_.opcode;
    return out;
  }
  if (!host.instruction) return out;
  const std::uint8_t* pc = engine_.cache().executable_at(host.instruction);
  const Block* block = pc ? engine_.cache().find_by_code(pc) : nullptr;
  const SideEntry* entry = block ? block->entry_at(pc) : nullptr;
  std::uint64_t page;
  if (!entry || !linear_page_of(*block, page)) return out;
  const auto index = static_cast<unsigned>(entry - block->side);
  // Addresses of another vCPU's from before the code cache was thrown away may lead anywhere.
  X87Instruction x87;
  if (!decode_x87_of(*block, index, x87)) return out;
  out.instruction = page + entry->guest_offset;
  if (!block->mode.has(Mode::CODE64)) out.instruction = (out.instruction - s.segments[CS].base) & 0xffffffffu;
  const bool same_privilege = block->mode.has(Mode::CPL3) == (cpl_ == 3);
  if (same_privilege) out.code_selector = s.segments[CS].selector;
  // Processors that note the opcode for exceptions only leave it zero.
  if (host.opcode || engine_.amd()) out.opcode = x87.opcode;
  if (host.data > HostX87Pointers::loaded) find_x87_data(*block, index, page, host.data, out);
  if (!engine_.x87_selectors()) out.code_selector = out.data_selector = 0;
  return out;
}

namespace {

// In the legacy region of a save area (SDM 1 10.5.1). The narrow form has selectors in place of the upper halves.
constexpr unsigned fop_at = 6, fip_at = 8, fcs_at = 12, fdp_at = 16, fds_at = 20;

template <typename T>
T load(const std::uint8_t* at) {
  T value;
  __builtin_memcpy(&value, at, sizeof value);
  return value;
}

template <typename T>
void store(std::uint8_t* at, T value) {
  __builtin_memcpy(at, &value, sizeof value);
}

}  // namespace

void BtVcpu::host_x87_pointers_to(const HostX87Pointers& host, std::uint8_t* image) {
  store(image + fop_at, host.opcode);
  store(image + fip_at, std::uint64_t{host.instruction});
  store(image + fdp_at, std::uint64_t{host.data});
}

void BtVcpu::export_x87_pointers(std::uint8_t* image, bool wide) {
  const HostX87Pointers host{load<std::uint32_t>(image + fip_at), load<std::uint32_t>(image + fdp_at),
                             load<std::uint16_t>(image + fop_at)};
  if (!host.instruction && !host.data) return;
  const X87Pointers guest = x87_pointers(host);
  store(image + fop_at, guest.opcode);
  store(image + fip_at, guest.instruction);
  store(image + fdp_at, guest.data);
  if (wide) return;
  store(image + fcs_at, std::uint32_t{guest.code_selector});
  store(image + fds_at, std::uint32_t{guest.data_selector});
}

void BtVcpu::import_x87_pointers(std::uint8_t* image, bool wide) {
  X87Pointers guest;
  guest.opcode = load<std::uint16_t>(image + fop_at) & 0x7ff;
  guest.instruction = load<std::uint64_t>(image + fip_at);
  guest.data = load<std::uint64_t>(image + fdp_at);
  if (!(guest.opcode | guest.instruction | guest.data)) return host_x87_pointers_to({}, image);
  if (wide) {
    guest.instruction = engine_.kept_of_x87_pointer(guest.instruction);
    guest.data = engine_.kept_of_x87_pointer(guest.data);
  } else {
    guest.code_selector = load<std::uint16_t>(image + fcs_at);
    guest.data_selector = load<std::uint16_t>(image + fds_at);
    guest.instruction &= 0xffffffffu;
    guest.data &= 0xffffffffu;
  }
  host_x87_pointers_to(keep_x87_pointers(guest), image);
}

void BtVcpu::settle_x87_pointers() {
  constexpr unsigned xstate_bv_at = 512;
  std::uint8_t* image = s.xsave.data();
  const HostX87Pointers host{load<std::uint32_t>(image + fip_at), load<std::uint32_t>(image + fdp_at),
                             load<std::uint16_t>(image + fop_at)};
  if (!(image[xstate_bv_at] & 1) || (!host.instruction && !host.data)) return;
  host_x87_pointers_to(keep_x87_pointers(x87_pointers(host)), image);
}

}  // namespace veneer::cpu::bt
