// Reads the file of fixed cases.
#include "regressions.h"

#include <fmt/format.h>

#include <cstring>
#include <fstream>
#include <optional>
#include <sstream>

#include "random.h"
#include "values.h"

namespace veneer::fuzz {

using namespace cpu;

namespace {

constexpr const char* gpr_names[gpr_count] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                              "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

Snippet plain_snippet(std::uint64_t components) {
  Snippet snippet;
  snippet.position = 256;
  snippet.start.gpr.fill(low_data + 256);
  snippet.start.gpr[RSP] = high_data + 2048;
  snippet.start.rflags = RFLAGS_FIXED1 | RFLAGS_IF;
  Random random(1, 0);
  random_vectors(random, components, snippet.start);
  constexpr unsigned fcw_at = 0, fsw_at = 2, mxcsr_at = 24;
  const std::uint16_t control = 0x37f, status = 0;
  const std::uint32_t mxcsr = 0x1f80;
  std::memcpy(snippet.start.xsave.data() + fcw_at, &control, sizeof control);
  std::memcpy(snippet.start.xsave.data() + fsw_at, &status, sizeof status);
  std::memcpy(snippet.start.xsave.data() + mxcsr_at, &mxcsr, sizeof mxcsr);
  return snippet;
}

std::optional<Instruction> instruction(const std::string& hex) {
  Instruction out;
  if (hex.empty() || hex.size() % 2 || hex.size() / 2 > 15) return std::nullopt;
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    char* end;
    const std::string digits = hex.substr(i, 2);
    out.bytes[i / 2] = static_cast<std::uint8_t>(std::strtoul(digits.c_str(), &end, 16));
    if (*end) return std::nullopt;
  }
  out.length = static_cast<std::uint8_t>(hex.size() / 2);
  return out;
}

bool assign(Snippet& snippet, const std::string& name, std::uint64_t value) {
  Image& start = snippet.start;
  for (unsigned i = 0; i < gpr_count; i++)
    if (name == gpr_names[i]) {
      start.gpr[i] = value;
      return true;
    }
  const auto in_xsave = [&](unsigned offset, unsigned bytes) {
    std::memcpy(start.xsave.data() + offset, &value, bytes);
    return true;
  };
  if (name == "fcw") return in_xsave(0, 2);
  if (name == "fsw") return in_xsave(2, 2);
  if (name == "mxcsr") return in_xsave(24, 4);
  if (name == "rflags") return start.rflags = value, true;
  if (name == "fs") return start.fs_base = value, true;
  if (name == "gs") return start.gs_base = value, true;
  if (name == "bits") {
    snippet.width = value == 0x16 ? CodeWidth::Bits16 : value == 0x32 ? CodeWidth::Bits32 : CodeWidth::Bits64;
    return true;
  }
  if (name == "at") return snippet.position = static_cast<std::uint32_t>(value), true;
  return false;
}

}  // namespace

Result<std::vector<Regression>> read_regressions(const std::string& path, std::uint64_t components) {
  std::ifstream file(path);
  if (!file) return Error(fmt::format("cannot read {}", path));
  std::vector<Regression> all;
  std::string line;
  for (unsigned number = 1; std::getline(file, line); number++) {
    std::istringstream words(line.substr(0, line.find('#')));
    Regression regression{{}, plain_snippet(components)};
    if (!(words >> regression.name)) continue;
    const auto bad = [&](const std::string& word) { return Error(fmt::format("{}:{}: {}?", path, number, word)); };
    for (std::string word; words >> word;) {
      const std::size_t equals = word.find('=');
      if (equals == word.npos) {
        const auto insn = instruction(word);
        if (!insn || regression.snippet.instructions.size() == max_instructions) return bad(word);
        regression.snippet.instructions.push_back(*insn);
        continue;
      }
      char* end;
      const std::uint64_t value = std::strtoull(word.c_str() + equals + 1, &end, 16);
      if (*end || !assign(regression.snippet, word.substr(0, equals), value)) return bad(word);
    }
    if (regression.snippet.instructions.empty()) return bad(regression.name);
    all.push_back(std::move(regression));
  }
  return all;
}

}  // namespace veneer::fuzz
