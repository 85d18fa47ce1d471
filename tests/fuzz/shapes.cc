// Shapes: loops, functions, jumps through registers.
#include "shapes.h"

#include <initializer_list>

namespace veneer::fuzz {

namespace {

class Shaper {
 public:
  Shaper(Random& random, const RegisterRoles& roles, Snippet& snippet)
      : random_(random), roles_(roles), snippet_(snippet) {}

  void loop() {
    Instruction& step = append(ZYDIS_MNEMONIC_DEC);
    // One element, so that no jump gets between counting and branching.
    if (snippet_.width == CodeWidth::Bits64) {
      bytes(step, {rex(roles_.counter), 0xff});
    } else {
      bytes(step, {0xff});
    }
    bytes(step, {0xc8u | (roles_.counter & 7)});
    if (random_.coin()) {
      bytes(step, {0x0f, 0x85});
      branch(step, rel_bytes());
    } else {
      bytes(step, {0x75});
      branch(step, 1);
    }
    step.branch_to = static_cast<int>(random_.below(size()));
  }

  /// CALL f; first half; JMP end; f: second half; RET.
  void function() {
    auto& all = snippet_.instructions;
    const auto half = static_cast<std::size_t>(random_.below(size() + 1));
    Instruction call, jump;
    call.mnemonic = ZYDIS_MNEMONIC_CALL;
    bytes(call, {0xe8});
    branch(call, rel_bytes());
    jump.mnemonic = ZYDIS_MNEMONIC_JMP;
    bytes(jump, {0xeb});
    branch(jump, 1);
    for (std::size_t i = 0; i < all.size(); i++)
      if (all[i].branch_to >= 0) all[i].branch_to += all[i].branch_to > static_cast<int>(half) ? 2 : 1;
    all.insert(all.begin() + static_cast<std::ptrdiff_t>(half), jump);
    all.insert(all.begin(), call);
    all.front().branch_to = static_cast<int>(half) + 2;
    Instruction& ret = append(ZYDIS_MNEMONIC_RET);
    if (random_.percent(70))
      bytes(ret, {0xc3});
    else
      bytes(ret, {0xc2, 8, 0});
    all[half + 1].branch_to = static_cast<int>(all.size());
  }

  /// JMP or CALL through a register to somewhere among the instructions.
  void through_register() {
    auto& all = snippet_.instructions;
    for (Instruction& each : all)
      if (each.branch_to >= 0) each.branch_to++;
    const bool call = random_.coin();
    Instruction jump;
    jump.mnemonic = call ? ZYDIS_MNEMONIC_CALL : ZYDIS_MNEMONIC_JMP;
    if (snippet_.width == CodeWidth::Bits64) bytes(jump, {rex(roles_.code_pointer) & 0x41u});
    bytes(jump, {0xff, (call ? 0xd0u : 0xe0u) | (roles_.code_pointer & 7)});
    all.insert(all.begin(), jump);
    snippet_.code_pointer = static_cast<int>(roles_.code_pointer);
    snippet_.code_pointer_to = 1 + static_cast<int>(random_.below(size()));
  }

 private:
  unsigned size() const { return static_cast<unsigned>(snippet_.instructions.size()); }
  Instruction& append(ZydisMnemonic mnemonic) {
    snippet_.instructions.emplace_back().mnemonic = mnemonic;
    return snippet_.instructions.back();
  }
  static void bytes(Instruction& to, std::initializer_list<unsigned> values) {
    for (const unsigned value : values) to.bytes[to.length++] = static_cast<std::uint8_t>(value);
  }
  static void branch(Instruction& to, unsigned displacement_bytes) {
    to.branch_at = to.length;
    to.branch_bytes = static_cast<std::uint8_t>(displacement_bytes);
    to.length = static_cast<std::uint8_t>(to.length + displacement_bytes);
    to.branch_to = 0;
  }
  static unsigned rex(unsigned reg) { return 0x48u | (reg >= 8 ? 1 : 0); }
  unsigned rel_bytes() const { return snippet_.width == CodeWidth::Bits16 ? 2 : 4; }

  Random& random_;
  const RegisterRoles& roles_;
  Snippet& snippet_;
};

}  // namespace

void give_shape(Random& random, const RegisterRoles& roles, Snippet& snippet) {
  Shaper shaper(random, roles, snippet);
  switch (roles.shape) {
    case Shape::Straight:
      break;
    case Shape::Loop:
      return shaper.loop();
    case Shape::Function:
      return shaper.function();
    case Shape::ThroughRegister:
      return shaper.through_register();
  }
}

}  // namespace veneer::fuzz
