// Listings of translated blocks: Zydis prints, this names what lies behind gs, data in the code stream, and jumps.
#include "cpu/bt/listing.h"

#include <Zydis/Zydis.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <span>
#include <vector>

#include "cpu/bt/branch_note.h"
#include "cpu/bt/callout.h"
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/vcpu_block.h"

namespace veneer::cpu::bt {
namespace {

struct Field {
  std::size_t offset;
  const char* name;
  std::size_t elements = 1;
};

#define VENEER_FIELD(name) \
  Field { offsetof(VcpuBlock, name), #name }
constexpr Field fields[] = {
    VENEER_FIELD(rip),
    VENEER_FIELD(page_address),
    VENEER_FIELD(poll),
    VENEER_FIELD(t0),
    VENEER_FIELD(t1),
    VENEER_FIELD(t2),
    VENEER_FIELD(arith_flags),
    VENEER_FIELD(flags_image),
    VENEER_FIELD(rcx_save),
    VENEER_FIELD(interrupt_flag),
    VENEER_FIELD(direction),
    VENEER_FIELD(irq_pending),
    VENEER_FIELD(exit_kind),
    VENEER_FIELD(exit_arg),
    VENEER_FIELD(stub_lookup),
    VENEER_FIELD(stub_exit),
    VENEER_FIELD(stub_memory),
    VENEER_FIELD(stub_writeback),
    VENEER_FIELD(stub_callout),
    VENEER_FIELD(stub_group),
    VENEER_FIELD(stub_link),
    VENEER_FIELD(stub_branch),
    VENEER_FIELD(state),
    VENEER_FIELD(mode),
    VENEER_FIELD(temp),
    VENEER_FIELD(kernel_gs_base),
    VENEER_FIELD(under_call),
    VENEER_FIELD(credit),
    Field{offsetof(VcpuBlock, segment_base), "segment_base", std::size(VcpuBlock{}.segment_base)},
    Field{offsetof(VcpuBlock, stub_stos), "stub_stos", std::size(VcpuBlock{}.stub_stos)},
    Field{offsetof(VcpuBlock, stub_movs), "stub_movs", std::size(VcpuBlock{}.stub_movs)},
    Field{offsetof(VcpuBlock, group_addend), "group_addend", std::size(VcpuBlock{}.group_addend)},
};
#undef VENEER_FIELD

constexpr const char* guest_registers[] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                           "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
constexpr const char* regimes[] = {"supervisor", "user", "override"};

/// What a displacement behind gs stands for; empty when this does not know.
std::string name_of_slot(std::uint64_t offset) {
  if (offset < sizeof(VcpuBlock::gpr)) return fmt::format("guest_{}", guest_registers[offset / 8]);
  for (const Field& field : fields) {
    if (offset < field.offset || offset >= field.offset + 8 * field.elements) continue;
    std::string name = field.name;
    if (field.elements > 1) name += fmt::format("[{}]", (offset - field.offset) / 8);
    const std::uint64_t rest = (offset - field.offset) % 8;
    return rest ? fmt::format("{}+{}", name, rest) : name;
  }
  for (unsigned r = 0; r < regime_count; r++) {
    const std::uint64_t in_tlb = offset - offsetof(ContextLayout, tlb) - r * sizeof(TlbTable);
    if (in_tlb == offsetof(TlbTable, read_tag)) return fmt::format("{}.read_tag", regimes[r]);
    if (in_tlb == offsetof(TlbTable, write_tag)) return fmt::format("{}.write_tag", regimes[r]);
    if (in_tlb == offsetof(TlbTable, addend)) return fmt::format("{}.addend", regimes[r]);
    const std::uint64_t in_jumps = offset - offsetof(ContextLayout, jumps) - r * sizeof(JumpCache);
    if (in_jumps == offsetof(JumpEntry, negated_address)) return fmt::format("{}.jump_address", regimes[r]);
    if (in_jumps == offsetof(JumpEntry, code)) return fmt::format("{}.jump_code", regimes[r]);
  }
  return {};
}

std::string describe(const AccessDescriptor& d) {
  struct Flag {
    std::uint8_t bit;
    const char* name;
  };
  static constexpr Flag flags[] = {{AccessDescriptor::READ, "read"},       {AccessDescriptor::WRITE, "write"},
                                   {AccessDescriptor::STACK, "stack"},     {AccessDescriptor::STAY, "stay"},
                                   {AccessDescriptor::WAITS, "waits"},     {AccessDescriptor::GROUP, "group"},
                                   {AccessDescriptor::ALIGNED, "aligned"}, {AccessDescriptor::MASKED, "masked"}};
  std::string text = fmt::format("access at {:03x}, {} bytes", std::uint16_t{d.offset}, unsigned{d.size});
  for (const Flag& flag : flags)
    if (d.flags & flag.bit) text += fmt::format(", {}", flag.name);
  return text;
}

/// One host instruction, or data between them.
struct Line {
  std::uint64_t address = 0;
  unsigned length = 0;
  bool is_code = false;
  std::string data;  ///< text of what is not code
};

/// Data that stands behind a call through gs.
enum class Trailer : std::uint8_t { None, Access, Callout, Note, Link };

class Lister {
 public:
  Lister(BtEngine& engine, const Block& block) : engine_(engine), block_(block) {
    ZydisDecoderInit(&host_, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    const bool code64 = block.mode.has(Mode::CODE64), code32 = block.mode.has(Mode::CODE32);
    ZydisDecoderInit(&guest_,
                     code64   ? ZYDIS_MACHINE_MODE_LONG_64
                     : code32 ? ZYDIS_MACHINE_MODE_LEGACY_32
                              : ZYDIS_MACHINE_MODE_LEGACY_16,
                     code64                          ? ZYDIS_STACK_WIDTH_64
                     : block.mode.has(Mode::STACK32) ? ZYDIS_STACK_WIDTH_32
                                                     : ZYDIS_STACK_WIDTH_16);
    ZydisFormatterInit(&formatter_, ZYDIS_FORMATTER_STYLE_INTEL);
    ZydisFormatterSetProperty(&formatter_, ZYDIS_FORMATTER_PROP_FORCE_SIZE, ZYAN_TRUE);
    ZydisFormatterSetProperty(&formatter_, ZYDIS_FORMATTER_PROP_HEX_UPPERCASE, ZYAN_FALSE);
    ZydisFormatterSetProperty(&formatter_, ZYDIS_FORMATTER_PROP_ADDR_PADDING_ABSOLUTE, ZYDIS_PADDING_DISABLED);
    ZydisFormatterSetProperty(&formatter_, ZYDIS_FORMATTER_PROP_DISP_PADDING, ZYDIS_PADDING_DISABLED);
    ZydisFormatterSetProperty(&formatter_, ZYDIS_FORMATTER_PROP_IMM_PADDING, ZYDIS_PADDING_DISABLED);
    plain_ = formatter_;
    const void* hook = reinterpret_cast<const void*>(&Lister::print_memory);
    ZydisFormatterSetHook(&formatter_, ZYDIS_FORMATTER_FUNC_FORMAT_OPERAND_MEM, &hook);
    print_memory_before = reinterpret_cast<ZydisFormatterFunc>(const_cast<void*>(hook));
    hook = reinterpret_cast<const void*>(&Lister::print_target);
    ZydisFormatterSetHook(&formatter_, ZYDIS_FORMATTER_FUNC_PRINT_ADDRESS_ABS, &hook);
    print_target_before = reinterpret_cast<ZydisFormatterFunc>(const_cast<void*>(hook));
  }

  std::string list() {
    read_code(block_.code, block_.hot_bytes, hot_);
    read_code(block_.cold, block_.cold_bytes, cold_);
    name_labels();
    std::string out = fmt::format("mode   {}\n", describe_mode(block_.mode));
    out += fmt::format("guest  {:3} instructions {:5} bytes\n", unsigned{block_.instructions}, block_.guest_bytes);
    out += fmt::format("hot    {:3} instructions {:5} bytes\n", instructions(hot_), block_.hot_bytes);
    out += fmt::format("cold   {:3} instructions {:5} bytes\n\n", instructions(cold_), block_.cold_bytes);
    std::uint64_t at = address(block_.code);
    unsigned next = 0;
    out += "indirect entry:\n";
    for (const Line& line : hot_) {
      at = line.address;
      if (at - address(block_.code) == block_.direct_offset) out += "direct entry:\n";
      while (next < block_.instructions && block_.side[next].host_offset <= at - address(block_.code))
        out += guest_line(next++);
      out += text_of(line);
    }
    while (next < block_.instructions) out += guest_line(next++);
    if (!cold_.empty()) out += "\nslow paths:\n";
    for (const Line& line : cold_) {
      for (unsigned i = 0; i < block_.instructions; i++)
        if (block_.side[i].cold_offset != SideEntry::no_cold &&
            block_.side[i].cold_offset == line.address - address(block_.cold))
          out += fmt::format("  ; of {:03x}\n", block_.side[i].guest_offset);
      out += text_of(line);
    }
    return out;
  }

 private:
  static std::uint64_t address(const void* p) { return reinterpret_cast<std::uint64_t>(p); }

  static std::size_t instructions(const std::vector<Line>& lines) {
    return static_cast<std::size_t>(std::count_if(lines.begin(), lines.end(), [](const Line& l) { return l.is_code; }));
  }

  /// The displacement behind gs of an instruction's memory operand.
  static std::optional<std::uint64_t> gs_slot(const ZydisDecodedInstruction& z, const ZydisDecodedOperand* op) {
    for (unsigned i = 0; i < z.operand_count_visible; i++)
      if (op[i].type == ZYDIS_OPERAND_TYPE_MEMORY && op[i].mem.segment == ZYDIS_REGISTER_GS)
        return static_cast<std::uint64_t>(op[i].mem.disp.value);
    return std::nullopt;
  }

  static Trailer trailer_of(const ZydisDecodedInstruction& z, const ZydisDecodedOperand* op) {
    if (z.mnemonic != ZYDIS_MNEMONIC_CALL) return Trailer::None;
    const auto slot = gs_slot(z, op);
    if (!slot) return Trailer::None;
    if (*slot >= offsetof(VcpuBlock, stub_stos) &&
        *slot < offsetof(VcpuBlock, stub_movs) + sizeof(VcpuBlock::stub_movs))
      return Trailer::Callout;
    switch (*slot) {
      case offsetof(VcpuBlock, stub_memory):
      case offsetof(VcpuBlock, stub_group):
      case offsetof(VcpuBlock, stub_writeback):
        return Trailer::Access;
      case offsetof(VcpuBlock, stub_callout):
        return Trailer::Callout;
      case offsetof(VcpuBlock, stub_branch):
        return Trailer::Note;
      case offsetof(VcpuBlock, stub_link):
        return Trailer::Link;
      default:
        return Trailer::None;
    }
  }

  std::string describe_link(std::uint32_t name) const {
    const auto& site = *static_cast<const LinkSite*>(engine_.cache().arena_at(name));
    if (site.far()) return fmt::format("link to {:+x}, another page", site.target);
    return fmt::format("link to {:03x}{}", site.target, site.ungrouped ? ", ungrouped" : "");
  }

  std::string describe_record(std::uint64_t pointer) const {
    const auto* record = reinterpret_cast<const CalloutRecord*>(pointer);
    const char* name = ZydisMnemonicGetString(static_cast<ZydisMnemonic>(record->mnemonic));
    return fmt::format("record of {:03x} {}", record->offset, name ? name : "?");
  }

  std::string describe_note(BranchNote note) const {
    if (!note.is_branch()) return "no branch: the block ends here";
    return fmt::format("branch at {:03x}, {:+} bytes of stack{}", note.offset(), note.stack_bytes(),
                       note.kept() ? ", kept what it replaced" : "");
  }

  void read_code(const std::uint8_t* begin, std::uint32_t bytes, std::vector<Line>& lines) {
    std::span<const std::uint8_t> left(begin, bytes);
    bool record_behind_jump = false;
    auto data = [&](std::size_t size, std::string text) {
      lines.push_back(Line{address(left.data()), static_cast<unsigned>(size), false, std::move(text)});
      left = left.subspan(size);
    };
    auto value = [&](auto sample) {
      std::memcpy(&sample, left.data(), sizeof sample);
      return sample;
    };
    while (!left.empty()) {
      ZydisDecodedInstruction z;
      ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
      if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&host_, left.data(), left.size(), &z, op))) {
        data(1, fmt::format(".byte {:02x}", left[0]));
        continue;
      }
      lines.push_back(Line{address(left.data()), z.length, true, {}});
      left = left.subspan(z.length);
      if (record_behind_jump && left.size() >= 8) data(8, describe_record(value(std::uint64_t{})));
      record_behind_jump = false;
      switch (trailer_of(z, op)) {
        case Trailer::Access:
          if (left.size() >= 8) {
            const auto descriptor = value(AccessDescriptor{});
            data(8, describe(descriptor));
            record_behind_jump = (descriptor.flags & AccessDescriptor::MASKED) &&
                                 gs_slot(z, op) == std::uint64_t{offsetof(VcpuBlock, stub_memory)};
          }
          break;
        case Trailer::Callout:
          if (left.size() >= 8) data(8, describe_record(value(std::uint64_t{})));
          break;
        case Trailer::Note:
          if (left.size() >= 4) data(4, describe_note(value(BranchNote{})));
          break;
        case Trailer::Link:
          if (left.size() >= 4) data(4, describe_link(value(std::uint32_t{})));
          break;
        case Trailer::None:
          break;
      }
    }
  }

  /// Every place that a jump leads to gets a name: hot ones h1, h2 ..., those in slow paths c1, c2 ...
  void name_labels() {
    for (const auto* lines : {&hot_, &cold_})
      for (const Line& line : *lines) {
        ZydisDecodedInstruction z;
        ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
        if (!line.is_code || !decode(line, z, op)) continue;
        ZyanU64 to;
        if (op[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE && op[0].imm.is_relative &&
            ZYAN_SUCCESS(ZydisCalcAbsoluteAddress(&z, &op[0], line.address, &to)))
          labels_[to];
      }
    unsigned hot = 0, cold = 0;
    for (auto& [to, name] : labels_) {
      if (to - address(block_.code) <= block_.hot_bytes)
        name = fmt::format("h{}", ++hot);
      else if (to - address(block_.cold) <= block_.cold_bytes)
        name = fmt::format("c{}", ++cold);
      else
        name = "elsewhere";
    }
  }

  bool decode(const Line& line, ZydisDecodedInstruction& z, ZydisDecodedOperand* op) const {
    return ZYAN_SUCCESS(
        ZydisDecoderDecodeFull(&host_, reinterpret_cast<const void*>(line.address), line.length, &z, op));
  }

  std::string text_of(const Line& line) {
    std::string out;
    if (const auto label = labels_.find(line.address); label != labels_.end()) out += label->second + ":\n";
    if (!line.is_code) return out + fmt::format("            .data {}\n", line.data);
    ZydisDecodedInstruction z;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    if (!decode(line, z, op)) return out + "            ?\n";
    char text[160];
    ZydisFormatterFormatInstruction(&formatter_, &z, op, z.operand_count_visible, text, sizeof text, line.address,
                                    this);
    return out + fmt::format("            {}\n", text);
  }

  const std::uint8_t* guest_byte(unsigned offset) const {
    const bool second = offset >= page_size;
    const CodePageId id = second ? block_.second_page : block_.page;
    const auto& slot = *engine_.memory().slots()[id >> 40];
    const std::uint64_t page = id & ((std::uint64_t{1} << 40) - 1);
    return reinterpret_cast<const std::uint8_t*>(slot.host) + (page << page_shift) + (offset & page_offset_mask);
  }

  std::string guest_line(unsigned i) {
    const unsigned offset = block_.side[i].guest_offset;
    const unsigned end =
        i + 1 < block_.instructions ? block_.side[i + 1].guest_offset : unsigned{block_.offset} + block_.guest_bytes;
    std::uint8_t bytes[16] = {};
    const unsigned length = std::min<unsigned>(end - offset, 15);
    for (unsigned n = 0; n < length; n++) bytes[n] = *guest_byte(offset + n);
    ZydisDecodedInstruction z;
    ZydisDecodedOperand op[ZYDIS_MAX_OPERAND_COUNT];
    char text[160] = "?";
    if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&guest_, bytes, length, &z, op)))
      ZydisFormatterFormatInstruction(&plain_, &z, op, z.operand_count_visible, text, sizeof text, offset, nullptr);
    return fmt::format("{:03x}  {:<40}; {:02x}\n", offset, text, fmt::join(bytes, bytes + length, " "));
  }

  // ---- Zydis' hooks. The formatter's functions before them print what they do not know.
  static inline ZydisFormatterFunc print_memory_before = nullptr, print_target_before = nullptr;

  static ZyanStatus append(ZydisFormatterBuffer* buffer, const std::string& text) {
    ZYAN_CHECK(ZydisFormatterBufferAppend(buffer, ZYDIS_TOKEN_SYMBOL));
    ZyanString* string;
    ZYAN_CHECK(ZydisFormatterBufferGetString(buffer, &string));
    ZyanStringView view;
    ZYAN_CHECK(ZyanStringViewInsideBufferEx(&view, text.data(), text.size()));
    return ZyanStringAppend(string, &view);
  }

  static ZyanStatus print_memory(const ZydisFormatter* formatter, ZydisFormatterBuffer* buffer,
                                 ZydisFormatterContext* context) {
    const auto& mem = context->operand->mem;
    const std::string name = mem.segment == ZYDIS_REGISTER_GS && mem.base == ZYDIS_REGISTER_NONE
                                 ? name_of_slot(static_cast<std::uint64_t>(mem.disp.value))
                                 : std::string();
    if (name.empty()) return print_memory_before(formatter, buffer, context);
    const std::string index =
        mem.index == ZYDIS_REGISTER_NONE ? "" : fmt::format(" + {}*{}", ZydisRegisterGetString(mem.index), mem.scale);
    return append(buffer, fmt::format("gs:[{}{}]", name, index));
  }

  static ZyanStatus print_target(const ZydisFormatter* formatter, ZydisFormatterBuffer* buffer,
                                 ZydisFormatterContext* context) {
    ZyanU64 to;
    ZYAN_CHECK(ZydisCalcAbsoluteAddress(context->instruction, context->operand, context->runtime_address, &to));
    const auto* self = static_cast<const Lister*>(context->user_data);
    const auto label = self->labels_.find(to);
    if (label == self->labels_.end()) return print_target_before(formatter, buffer, context);
    return append(buffer, label->second);
  }

  BtEngine& engine_;
  const Block& block_;
  ZydisDecoder host_, guest_;
  ZydisFormatter formatter_, plain_;
  std::vector<Line> hot_, cold_;
  std::map<std::uint64_t, std::string> labels_;
};

}  // namespace

std::string list_block(BtEngine& engine, const Block& block) { return Lister(engine, block).list(); }

std::string describe_mode(Mode mode) {
  struct Flag {
    std::uint32_t bit;
    const char* name;
  };
  static constexpr Flag flags[] = {
      {Mode::X87_NM, "x87_nm"},     {Mode::SSE_UD, "sse_ud"},       {Mode::SSE_NM, "sse_nm"},
      {Mode::AVX, "avx"},           {Mode::AVX512, "avx512"},       {Mode::TSC_TRAP, "tsc_trap"},
      {Mode::SINGLE, "single"},     {Mode::DS_BASE, "ds_base"},     {Mode::ES_BASE, "es_base"},
      {Mode::SS_BASE, "ss_base"},   {Mode::CS_BASE, "cs_base"},     {Mode::IF_TRAP, "if_trap"},
      {Mode::VM86, "vm86"},         {Mode::REAL, "real"},           {Mode::LIMITED, "limited"},
      {Mode::FSGSBASE, "fsgsbase"}, {Mode::UNGROUPED, "ungrouped"}, {Mode::ALIGN_CHECK, "align_check"},
      {Mode::NESTED, "nested"}};
  std::string text = mode.has(Mode::CODE64) ? "64-bit" : mode.has(Mode::CODE32) ? "32-bit" : "16-bit";
  text += fmt::format(" {}", regimes[static_cast<unsigned>(mode.regime())]);
  for (const Flag& flag : flags)
    if (mode.has(flag.bit)) text += fmt::format(" {}", flag.name);
  return text;
}

}  // namespace veneer::cpu::bt
