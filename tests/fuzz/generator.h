// Makes snippets: random instructions of every row, with registers arranged so that most memory operands hit data.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "cpu/x86/insn_table.h"
#include "random.h"
#include "roles.h"
#include "snippet.h"
#include "templates.h"

namespace veneer::fuzz {

/// What cases to make.
struct GeneratorOptions {
  unsigned max_instructions = fuzz::max_instructions;
  bool alignment_check = false;                 ///< sometimes start with RFLAGS.AC
  ZydisMnemonic only = ZYDIS_MNEMONIC_INVALID;  ///< every case holds one of these
};

class Generator {
 public:
  Generator(const cpu::CpuidPolicy& policy, CodeWidth width, const GeneratorOptions& options);

  /// The case with this number; always the same.
  Snippet make(std::uint64_t seed, std::uint64_t number) const;

  const std::vector<RowTemplates>& rows() const { return rows_; }
  const ZydisDecoder& decoder() const { return decoder_; }
  CodeWidth width() const { return width_; }

 private:
  const RowTemplates& choose_row(Random& random) const;
  bool encode(Random& random, const RegisterRoles& roles, const Template& form, Instruction& out) const;
  bool acceptable(Random& random, const RegisterRoles& roles, const Template& form, const ZydisDecodedInstruction& z,
                  const ZydisDecodedOperand* operands) const;

  CodeWidth width_;
  ZydisDecoder decoder_;
  cpu::x86::FeatureGate gate_;
  GeneratorOptions options_;
  std::uint64_t components_;
  std::vector<RowTemplates> rows_;
  std::vector<std::size_t> integer_rows_;
};

/// One for each width. Making one sweeps through all encodings: it is done once.
using Generators = std::array<Generator, code_widths>;

}  // namespace veneer::fuzz
