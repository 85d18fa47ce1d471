// Disassembles a case.
#include "report.h"

#include <fmt/format.h>

namespace veneer::fuzz {

std::string describe_case(const ZydisDecoder& decoder, const Case& the_case) {
  ZydisFormatter formatter;
  ZydisFormatterInit(&formatter, ZYDIS_FORMATTER_STYLE_INTEL);
  std::string text;
  std::uint32_t at = 0;
  while (at < the_case.code_size) {
    ZydisDecodedInstruction z;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    const std::uint64_t address = the_case.start.rip + at;
    unsigned length = 1;
    char buffer[256] = "?";
    if (ZYAN_SUCCESS(ZydisDecoderDecodeFull(&decoder, the_case.code + at, the_case.code_size - at, &z, operands))) {
      length = z.length;
      ZydisFormatterFormatInstruction(&formatter, &z, operands, z.operand_count_visible, buffer, sizeof buffer, address,
                                      nullptr);
    }
    std::string bytes;
    for (unsigned i = 0; i < length; i++) bytes += fmt::format("{:02x}", the_case.code[at + i]);
    text += fmt::format("    {:#x}  {:30}  {}\n", address, bytes, buffer);
    at += length;
  }
  const Image& s = the_case.start;
  const auto& g = s.gpr;
  text += fmt::format("    rax {:016x} rcx {:016x} rdx {:016x} rbx {:016x}\n", g[0], g[1], g[2], g[3]);
  text += fmt::format("    rsp {:016x} rbp {:016x} rsi {:016x} rdi {:016x}\n", g[4], g[5], g[6], g[7]);
  text += fmt::format("    r8  {:016x} r9  {:016x} r10 {:016x} r11 {:016x}\n", g[8], g[9], g[10], g[11]);
  text += fmt::format("    r12 {:016x} r13 {:016x} r14 {:016x} r15 {:016x}\n", g[12], g[13], g[14], g[15]);
  text += fmt::format("    rflags {:x} fs {:x} gs {:x}\n", s.rflags, s.fs_base, s.gs_base);
  return text;
}

}  // namespace veneer::fuzz
