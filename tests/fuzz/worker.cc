// The worker: generates cases in batches, runs them on both sides, compares, minimises and reports.
#include "worker.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "compare.h"
#include "report.h"

namespace veneer::fuzz {

namespace {

bool saves_vectors(const Instruction& instruction) {
  switch (instruction.mnemonic) {
    case ZYDIS_MNEMONIC_XSAVE:
    case ZYDIS_MNEMONIC_XSAVE64:
    case ZYDIS_MNEMONIC_XSAVEC:
    case ZYDIS_MNEMONIC_XSAVEC64:
    case ZYDIS_MNEMONIC_XSAVEOPT:
    case ZYDIS_MNEMONIC_XSAVEOPT64:
      return true;
    default:
      return false;
  }
}

bool stores_x87_pointers(const Instruction& instruction) {
  switch (instruction.mnemonic) {
    case ZYDIS_MNEMONIC_FNSTENV:
    case ZYDIS_MNEMONIC_FNSAVE:
    case ZYDIS_MNEMONIC_FXSAVE:
    case ZYDIS_MNEMONIC_FXSAVE64:
      return true;
    default:
      return saves_vectors(instruction);
  }
}

/// AMD's processors forget x87 pointers when the host switches tasks, and so the guest's stored image has zeros
/// (docs/QUIRKS.md). True if these lines say nothing else.
bool x87_pointers_forgotten(const Snippet& snippet, const std::vector<std::string>& lines) {
  return std::any_of(snippet.instructions.begin(), snippet.instructions.end(), stores_x87_pointers) &&
         std::all_of(lines.begin(), lines.end(),
                     [](const std::string& line) { return line.starts_with("memory") && line.ends_with("guest 00"); });
}

/// A jump into an instruction found an INT1 (mask.h): the one line of difference is what Linux makes of RIP.
bool ends_at_hidden_int1(const Snippet& snippet, const Outcome& native, const std::vector<std::string>& lines) {
  if (native.vector != cpu::VECTOR_DB || lines.size() != 1 || !lines.front().starts_with("rip")) return false;
  constexpr std::uint8_t int1 = 0xf1;
  Case the_case;
  snippet.lay_out(the_case);
  const std::uint64_t at = code_segment_base(snippet.width) + native.image.rip - code_base - the_case.code_offset;
  return at < the_case.code_size && the_case.code[at] == int1;
}

}  // namespace

Worker::Worker(const Options& options, const cpu::CpuidPolicy& policy, const Generators& generators,
               Statistics& statistics, Clock::time_point deadline)
    : options_(options),
      statistics_(statistics),
      deadline_(deadline),
      policy_(policy),
      generators_(generators),
      pool_(options.seed),
      oracle_(pool_, policy_.xcr0_mask()) {}

Worker::~Worker() {
  stop_ = true;
  if (watchdog_.joinable()) watchdog_.join();
}

Result<void> Worker::create() {
  TRY_VOID(oracle_.create());
  for (const GuestMode mode : {GuestMode::Blocks, GuestMode::Instructions, GuestMode::Steps}) {
    if (!((options_.modes >> static_cast<unsigned>(mode)) & 1)) continue;
    guests_.push_back(std::make_unique<Guest>(pool_, policy_, mode));
    TRY_VOID(guests_.back()->create());
  }
  watchdog_ = std::thread([this] { watch(); });
  return {};
}

void Worker::watch() {
  // In ticks, not in time: all of this may be stopped for a while.
  constexpr unsigned patience_ticks = 60;
  std::uint64_t last = 0;
  unsigned ticks = 0;
  while (!stop_) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    const std::uint64_t now = runs_;
    ticks = now == last ? ticks + 1 : 0;
    last = now;
    if (Guest* guest = running_; guest && ticks > patience_ticks) {
      guest->give_up();
      ticks = 0;
    }
  }
}

void Worker::run_guests(const Case& the_case, std::vector<Outcome>& out) {
  out.resize(guests_.size());
  for (std::size_t i = 0; i < guests_.size(); i++) {
    runs_++;
    running_ = guests_[i].get();
    guests_[i]->run(the_case, out[i]);
    running_ = nullptr;
  }
}

std::vector<std::string> Worker::compare(const Snippet& snippet, const Outcome& native, Outcome& other) {
  const bool saves = std::any_of(snippet.instructions.begin(), snippet.instructions.end(), saves_vectors);
  Outcome copy = native;
  bool undetermined;
  std::vector<std::string> lines = differences(snippet.width, policy_.xcr0_mask(), saves, copy, other, undetermined);
  if (undetermined) statistics_.undetermined++;
  return lines;
}

Worker::Finding Worker::compare_all(const Snippet& snippet, const Outcome& native, std::vector<Outcome>& guests) {
  Finding finding;
  for (std::size_t i = 0; i < guests.size(); i++) {
    std::vector<std::string> lines = compare(snippet, native, guests[i]);
    if (lines.empty()) continue;
    finding.modes += finding.modes.empty() ? "" : ", ";
    finding.modes += guest_mode_names[static_cast<unsigned>(guests_[i]->mode())];
    if (finding.lines.empty()) finding.lines = std::move(lines);
  }
  return finding;
}

Result<Worker::Finding> Worker::run_once(const Snippet& snippet) {
  OracleSlot& slot = oracle_.slot(0);
  snippet.lay_out(slot.input);
  TRY_VOID(oracle_.start(1));
  TRY_VOID(oracle_.wait());
  if (slot.output.ending != Ending::Exception) return Finding{};
  std::vector<Outcome> guests;
  run_guests(slot.input, guests);
  return compare_all(snippet, slot.output, guests);
}

Result<Snippet> Worker::minimise(Snippet snippet) {
  const std::size_t size = snippet.instructions.size();
  snippet.left_out.assign(size, false);
  for (std::size_t i = 0; i < size; i++) {
    snippet.left_out[i] = true;
    TRY(const Finding finding, run_once(snippet));
    if (finding.lines.empty()) snippet.left_out[i] = false;
  }
  Snippet moved = snippet;
  moved.placement = Placement::Anywhere;
  moved.position = 256;
  TRY(const Finding finding, run_once(moved));
  return finding.lines.empty() ? snippet : moved;
}

Result<void> Worker::investigate(std::uint64_t number, Snippet snippet, Differing first) {
  if (ends_at_hidden_int1(snippet, *first.native, first.finding.lines)) {
    statistics_.undetermined++;
    return {};
  }
  TRY(Finding finding, run_once(snippet));
  const bool again = !finding.lines.empty();
  if (!again && (!compare(snippet, *first.native, oracle_.slot(0).output).empty() ||
                 x87_pointers_forgotten(snippet, first.finding.lines))) {
    // The processor did not do the same twice: one side was switched away between an instruction and one that saves.
    statistics_.unsteady++;
    return {};
  }
  if (!again) finding = std::move(first.finding);
  statistics_.differing++;
  if (again) {
    TRY(snippet, minimise(std::move(snippet)));
    TRY(finding, run_once(snippet));
  }
  // Alike: the same instructions differ in the same things.
  std::string signature;
  for (std::size_t i = 0; i < snippet.instructions.size(); i++)
    if (snippet.left_out.empty() || !snippet.left_out[i])
      signature += std::to_string(snippet.instructions[i].mnemonic) + ' ';
  if (!finding.lines.empty()) signature += finding.lines.front().substr(0, 4);
  if (!statistics_.new_signature(std::hash<std::string>{}(signature))) return {};
  if (statistics_.reports++ >= options_.max_reports) return {};
  fmt::print("\nDIFFERENCE: {}   ({}-bit; {}{})\n", command_line(options_, number),
             code_width_names[static_cast<unsigned>(snippet.width)], finding.modes,
             again ? "" : "; not again when run alone");
  Case the_case;
  snippet.lay_out(the_case);
  fmt::print("{}", describe_case(generator_for(number).decoder(), the_case));
  constexpr std::size_t shown = 12;
  for (std::size_t i = 0; i < finding.lines.size() && i < shown; i++) fmt::print("  {}\n", finding.lines[i]);
  if (finding.lines.size() > shown) fmt::print("  ... and {} more\n", finding.lines.size() - shown);
  std::fflush(stdout);
  return {};
}

void Worker::count(const Snippet& snippet, const Case& the_case, const Outcome& native) {
  statistics_.snippets++;
  const std::uint64_t base = the_case.start.rip;
  const bool to_the_end = native.image.rip == base + the_case.code_size + 1;
  if (!to_the_end) statistics_.faults++;
  std::uint64_t at = base;
  for (const Instruction& insn : snippet.instructions) {
    // Those behind the fault were not run; those jumped over count, as nobody knows.
    if (!to_the_end && at > native.image.rip) break;
    statistics_.instructions++;
    statistics_.rows[static_cast<unsigned>(snippet.width)][insn.mnemonic]++;
    at += insn.length;
  }
}

Result<void> Worker::run_batch(unsigned count_of) {
  const std::uint64_t first = statistics_.next_case;
  std::vector<Snippet> snippets(count_of);
  std::vector<std::vector<Outcome>> guests(count_of);
  for (unsigned i = 0; i < count_of; i++) {
    snippets[i] = generator_for(first + i).make(options_.seed, first + i);
    snippets[i].lay_out(oracle_.slot(i).input);
  }
  TRY_VOID(oracle_.start(count_of));
  for (unsigned i = 0; i < count_of; i++) {
    statistics_.running_case = first + i;
    run_guests(oracle_.slot(i).input, guests[i]);
  }
  TRY_VOID(oracle_.wait());
  std::vector<Differing> differing;
  for (unsigned i = 0; i < count_of; i++) {
    const Outcome& native = oracle_.slot(i).output;
    if (native.ending != Ending::Exception) {
      statistics_.lost++;
      continue;
    }
    count(snippets[i], oracle_.slot(i).input, native);
    Finding finding = compare_all(snippets[i], native, guests[i]);
    if (!finding.lines.empty()) differing.push_back({i, std::make_unique<Outcome>(native), std::move(finding)});
  }
  statistics_.next_case = first + count_of;
  for (Differing& each : differing) {
    const unsigned index = each.index;
    statistics_.running_case = first + index;
    TRY_VOID(investigate(first + index, snippets[index], std::move(each)));
  }
  return {};
}

Result<unsigned> Worker::run_fixed(const std::vector<Regression>& cases) {
  TRY_VOID(create());
  unsigned differing = 0;
  for (const Regression& regression : cases) {
    TRY(const Finding finding, run_once(regression.snippet));
    const bool lost = oracle_.slot(0).output.ending != Ending::Exception;
    if (finding.lines.empty() && !lost) continue;
    differing++;
    fmt::print(
        "\nDIFFERENCE: {}   ({})\n{}", regression.name, lost ? "lost natively" : finding.modes,
        describe_case(generators_[static_cast<unsigned>(regression.snippet.width)].decoder(), oracle_.slot(0).input));
    for (const std::string& line : finding.lines) fmt::print("  {}\n", line);
  }
  return differing;
}

Result<void> Worker::run() {
  TRY_VOID(create());
  while (Clock::now() < deadline_) {
    const std::uint64_t left = options_.first + options_.cases - statistics_.next_case;
    if (left == 0) break;
    TRY_VOID(run_batch(static_cast<unsigned>(std::min<std::uint64_t>(left, Oracle::batch))));
  }
  return {};
}

}  // namespace veneer::fuzz
