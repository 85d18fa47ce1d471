// Compares how a case ended natively and in the guest.
#include "compare.h"

#include <fmt/format.h>

#include <cstring>

#include "save_area.h"
#include "values.h"

namespace veneer::fuzz {

using namespace cpu;

namespace {

constexpr const char* gpr_names[gpr_count] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                              "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

/// Linux reports a protection violation for every address from TASK_SIZE_MAX on (mask.h).
std::uint32_t comparable_error(const Outcome& outcome) {
  constexpr std::uint32_t P = 1;
  constexpr std::uint64_t TASK_SIZE_MAX = (std::uint64_t{1} << 47) - page_bytes;
  if (outcome.vector == VECTOR_PF && outcome.cr2 >= TASK_SIZE_MAX) return outcome.error | P;
  return outcome.error;
}

class Comparison {
 public:
  Comparison(const Outcome& native, const Outcome& guest) : native_(native), guest_(guest) {}

  std::vector<std::string> run(std::uint64_t components) {
    ending();
    registers();
    vectors(components);
    memory();
    if (!lines_.empty()) lines_.push_back(fmt::format("both end {}", describe_ending(native_)));
    return std::move(lines_);
  }

 private:
  void value(std::string_view what, std::uint64_t native, std::uint64_t guest) {
    if (native != guest) lines_.push_back(fmt::format("{:8} native {:#018x}  guest {:#018x}", what, native, guest));
  }

  void ending() {
    if (native_.vector != guest_.vector || comparable_error(native_) != comparable_error(guest_))
      lines_.push_back(fmt::format("ends     native {}  guest {}", describe_ending(native_), describe_ending(guest_)));
    if (native_.vector == VECTOR_PF && guest_.vector == VECTOR_PF) value("cr2", native_.cr2, guest_.cr2);
  }

  void registers() {
    for (unsigned i = 0; i < gpr_count; i++) value(gpr_names[i], native_.image.gpr[i], guest_.image.gpr[i]);
    value("rip", native_.image.rip, guest_.image.rip);
    value("rflags", native_.image.rflags, guest_.image.rflags);
    value("cs", native_.image.cs, guest_.image.cs);
    value("ss", native_.image.ss, guest_.image.ss);
    value("fs_base", native_.image.fs_base, guest_.image.fs_base);
    value("gs_base", native_.image.gs_base, guest_.image.gs_base);
  }

  void bytes(std::string_view what, unsigned offset, unsigned size) {
    const std::uint8_t* native = native_.image.xsave.data() + offset;
    const std::uint8_t* guest = guest_.image.xsave.data() + offset;
    if (std::memcmp(native, guest, size) == 0) return;
    const auto text = [size](const std::uint8_t* at) {
      std::string all;
      for (unsigned i = size; i-- > 0;) all += fmt::format("{:02x}", at[i]);
      return all;
    };
    lines_.push_back(fmt::format("{:8} native {}  guest {}", what, text(native), text(guest)));
  }

  void vectors(std::uint64_t components) {
    bytes("fcw", 0, 2);
    bytes("fsw", 2, 2);
    bytes("ftw", 4, 1);
    bytes("mxcsr", 24, 4);
    for (unsigned i = 0; i < 8; i++) bytes(fmt::format("st{}", i), 32 + 16 * i, 10);
    const auto each = [&](unsigned component, std::string_view name, unsigned first, unsigned size, unsigned count) {
      if (!((components >> component) & 1)) return;
      const unsigned offset = component == 1 ? 160 : component_place(component).offset;
      for (unsigned i = 0; i < count; i++) bytes(fmt::format("{}{}", name, first + i), offset + i * size, size);
    };
    each(1, "xmm", 0, 16, 16);
    each(2, "ymmh", 0, 16, 16);
    each(5, "k", 0, 8, 8);
    each(6, "zmmh", 0, 32, 16);
    each(7, "zmm", 16, 64, 16);
  }

  void memory() {
    for (std::size_t page = 0; page < data_pages.size(); page++) {
      const std::uint8_t* native = native_.memory[page];
      const std::uint8_t* guest = guest_.memory[page];
      if (std::memcmp(native, guest, page_bytes) == 0) continue;
      constexpr unsigned shown = 8;
      unsigned found = 0;
      for (std::size_t i = 0; i < page_bytes && found < shown; i++) {
        if (native[i] == guest[i]) continue;
        found++;
        lines_.push_back(fmt::format("memory   [{:#x}] native {:02x}  guest {:02x}", data_pages[page].address + i,
                                     native[i], guest[i]));
      }
    }
  }

  const Outcome& native_;
  const Outcome& guest_;
  std::vector<std::string> lines_;
};

}  // namespace

std::string describe_ending(const Outcome& outcome) {
  static constexpr const char* names[] = {"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "9",
                                          "#TS", "#NP", "#SS", "#GP", "#PF", "15",  "#MF", "#AC", "#MC", "#XM"};
  switch (outcome.ending) {
    case Ending::NotRun:
      return "not run";
    case Ending::Hang:
      return "hang";
    case Ending::Crash:
      return "crash";
    case Ending::Other:
      return fmt::format("exit {}", outcome.vector);
    case Ending::Exception:
      break;
  }
  const std::string name =
      outcome.vector < std::size(names) ? names[outcome.vector] : fmt::format("vector {}", outcome.vector);
  const std::string cr2 = outcome.vector == VECTOR_PF ? fmt::format(" cr2 {:#x}", outcome.cr2) : "";
  return fmt::format("{}({:#x}) at {:#x}{}", name, outcome.error, outcome.image.rip, cr2);
}

std::vector<std::string> differences(CodeWidth width, std::uint64_t components, bool saves_vectors, Outcome& native,
                                     Outcome& guest, bool& undetermined) {
  undetermined = false;
  if (native.ending != Ending::Exception || guest.ending != Ending::Exception) {
    if (native.ending == guest.ending) return {};
    return {fmt::format("ends     native {}  guest {}", describe_ending(native), describe_ending(guest))};
  }
  // On the way back to a 16-bit stack segment the kernel's own stack pointer shows in RSP's upper half.
  if (width == CodeWidth::Bits16) native.image.gpr[RSP] &= 0xffffffff;
  canonicalise(components, native.image.xsave);
  canonicalise(components, guest.image.xsave);
  // Where such an image was forgiven, instructions behind it may have read what the processor was free to leave there.
  const bool forgiven = saves_vectors && forgive_initial_components(width, components, native, guest);
  std::vector<std::string> lines = Comparison(native, guest).run(components);
  undetermined = forgiven && !lines.empty();
  if (undetermined) lines.clear();
  return lines;
}

}  // namespace veneer::fuzz
