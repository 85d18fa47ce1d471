// golden_listings DIR [--update]: translates the snippets and compares the listings with DIR/NAME.txt.
#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "cpu/bt/engine_impl.h"
#include "cpu/bt/listing.h"
#include "cpu/bt/translate.h"
#include "fake_board.h"
#include "snippets.h"

namespace veneer::golden {
namespace {

using cpu::bt::Mode;

constexpr std::uint64_t ram_bytes = 4 * MiB;
constexpr std::uint64_t code_at = 0x1000;

bool host_has_avx512(const cpu::CpuidPolicy& policy) {
  constexpr unsigned AVX512F = 16, AVX512BW = 30, AVX512VL = 31;
  using R = cpu::CpuidPolicy::Register;
  return policy.has(7, 0, R::Ebx, AVX512F) && policy.has(7, 0, R::Ebx, AVX512BW) && policy.has(7, 0, R::Ebx, AVX512VL);
}

Mode mode_of(const Snippet& snippet) {
  const std::uint32_t user = static_cast<std::uint32_t>(cpu::bt::Regime::User) << Mode::REGIME_SHIFT;
  std::uint32_t bits = Mode::LONG | Mode::STACK32 | Mode::AVX | Mode::FSGSBASE;
  if (snippet.avx512) bits |= Mode::AVX512;
  switch (snippet.where) {
    case Where::User64:
      return Mode{bits | Mode::CODE64 | Mode::CPL3 | Mode::IF_TRAP | user};
    case Where::Kernel64:
      return Mode{bits | Mode::CODE64};
    case Where::User32:
      return Mode{bits | Mode::CODE32 | Mode::CPL3 | Mode::IF_TRAP | user};
  }
  return {};
}

/// Each snippet has an engine of its own: alignment padding depends on where in the code cache a block lies.
Result<std::string> listing_of(const Snippet& snippet, const cpu::CpuidPolicy& policy) {
  machine::GuestMemory memory;
  TRY_VOID(memory.add("ram", GuestPhys{0}, ram_bytes, machine::SlotKind::Ram));
  if (!memory.write(GuestPhys{code_at}, std::as_bytes(snippet.code))) return Error("the snippet does not fit");
  engine_tests::FakeBoard board;
  cpu::bt::BtEngine engine(memory, board, policy, {});
  TRY_VOID(engine.create());
  const cpu::bt::CodePageId page = cpu::bt::code_page_id(0, code_at >> page_shift);
  engine.cache().close_page(page);
  engine.cache().page_closed(page);
  const cpu::bt::TranslateRequest request{
      page, reinterpret_cast<const std::byte*>(memory.slots()[0]->host) + code_at, 0, nullptr, 0, mode_of(snippet)};
  const cpu::bt::Block* block = cpu::bt::translate(engine, request);
  if (!block) return Error("not translated");
  return fmt::format("; {}: {}\n{}", snippet.name, snippet.about, cpu::bt::list_block(engine, *block));
}

std::vector<std::string> lines_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

/// Removed and added lines with `-` and `+`, by longest common subsequence.
std::string difference(const std::string& before, const std::string& after) {
  const auto a = lines_of(before), b = lines_of(after);
  std::vector<std::vector<unsigned>> common(a.size() + 1, std::vector<unsigned>(b.size() + 1));
  for (std::size_t i = a.size(); i-- > 0;)
    for (std::size_t j = b.size(); j-- > 0;)
      common[i][j] = a[i] == b[j] ? common[i + 1][j + 1] + 1 : std::max(common[i + 1][j], common[i][j + 1]);
  std::string out;
  for (std::size_t i = 0, j = 0; i < a.size() || j < b.size();) {
    if (i < a.size() && j < b.size() && a[i] == b[j])
      i++, j++;
    else if (j == b.size() || (i < a.size() && common[i + 1][j] >= common[i][j + 1]))
      out += "  -" + a[i++] + "\n";
    else
      out += "  +" + b[j++] + "\n";
  }
  return out;
}

std::optional<std::string> read_file(const std::string& path) {
  std::ifstream in(path);
  if (!in) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(in), {});
}

int run(const std::string& folder, bool update) {
  const auto policy = cpu::CpuidPolicy::host(1, 2'000'000'000);
  int different = 0;
  for (const Snippet& snippet : snippets()) {
    if (snippet.avx512 && !host_has_avx512(policy)) {
      fmt::print("{}: left out, this host has no AVX-512\n", snippet.name);
      continue;
    }
    const auto made = listing_of(snippet, policy);
    if (!made) {
      fmt::print("{}: {}\n", snippet.name, made.error().message());
      return 1;
    }
    const std::string path = fmt::format("{}/{}.txt", folder, snippet.name);
    const auto kept = read_file(path);
    if (kept == made.value()) continue;
    different++;
    fmt::print("{}: {}\n{}", path, kept ? "the translation is another one" : "new",
               difference(kept.value_or(""), made.value()));
    if (update) std::ofstream(path) << made.value();
  }
  if (!different || update) {
    fmt::print("{} listings, {} {}\n", snippets().size(), different, update ? "written" : "different");
    return 0;
  }
  fmt::print(
      "\n{} listings differ. If that is intended: ninja -C build golden-update, and commit what changed in {}.\n",
      different, folder);
  return 1;
}

}  // namespace
}  // namespace veneer::golden

int main(int argc, char** argv) {
  const bool update = argc == 3 && std::string(argv[2]) == "--update";
  if (argc != 2 && !update) {
    fmt::print(stderr, "usage: golden_listings DIR [--update]\n");
    return 2;
  }
  return veneer::golden::run(argv[1], update);
}
