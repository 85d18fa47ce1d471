// The monitor: finding the command of a line and carrying it out.
#include "cli/monitor.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <span>
#include <string>
#include <vector>

#include "cli/options.h"
#include "cli/size.h"

namespace veneer::cli {
namespace {

struct Command {
  std::string_view name;
  std::string_view help;
};

constexpr Command commands[] = {
    {"grow", "grow DISK [SIZE]: a larger disk while the guest runs; without SIZE as large as its image has become"},
    {"help", "this list"},
    {"info", "info registers|tlb|jit|events [CPU], info block, info network, info status, info version"},
    {"link", "link NET on|off: plugs in or pulls out a card's cable (info network has the names)"},
    {"pause", "stop the virtual CPUs and the guest's clock"},
    {"powerdown", "press the power button"},
    {"quit", "end the machine at once, like pulling the plug"},
    {"reset", "press the reset button"},
    {"resume", "go on after pause"},
    {"save", "save FILE: the whole machine to a file; from veneer monitor NAME only"},
};

constexpr Command info_commands[] = {
    {"block", "the disks and what they did"}, {"events", "the last events of a CPU"},
    {"jit", "the translator's counters"},     {"network", "the network cards and what they did"},
    {"registers", "the registers of a CPU"},  {"status", "running or paused"},
    {"tlb", "the software TLB's contents"},   {"version", "Veneer's version"},
};

/// The one command that `word` is, or begins; else why not.
Result<std::string_view> find(std::span<const Command> table, std::string_view word) {
  std::vector<std::string_view> matches;
  for (const Command& command : table) {
    if (command.name == word) return command.name;
    if (command.name.starts_with(word)) matches.push_back(command.name);
  }
  if (matches.size() == 1) return matches.front();
  if (matches.empty()) return Error(fmt::format("\"{}\" is no command here; help lists them", word.substr(0, 40)));
  return Error(fmt::format("\"{}\" could be {}", word, fmt::join(matches, " or ")));
}

/// Takes the first word off `line`.
std::string_view next_word(std::string_view& line) {
  const std::size_t begin = std::min(line.find_first_not_of(" \t"), line.size());
  const std::size_t end = std::min(line.find_first_of(" \t", begin), line.size());
  const std::string_view word = line.substr(begin, end - begin);
  line.remove_prefix(end);
  return word;
}

std::string help_text() {
  std::string out;
  for (const Command& command : commands) out += fmt::format("{:<10} {}\n", command.name, command.help);
  return out + "Ctrl-A c leaves this prompt, Ctrl-A x ends the machine.\n";
}

}  // namespace

std::string Monitor::info(std::string_view what, std::string_view argument) {
  if (what.empty()) return "info what? registers, tlb, jit, events, block, network, status or version\n";
  const auto found = find(info_commands, what);
  if (!found) return found.error().message() + "\n";
  const std::string_view name = found.value();
  if (name == "version") return fmt::format("veneer {}\n", version());
  if (name == "status") return target_.status();
  if (name == "block") return target_.disks();
  if (name == "network") return target_.network();

  unsigned first = 0;
  unsigned last = target_.vcpu_count();
  if (!argument.empty()) {
    const auto [end, error] = std::from_chars(argument.data(), argument.data() + argument.size(), first);
    if (error != std::errc{} || end != argument.data() + argument.size() || first >= last)
      return fmt::format("\"{}\" is not a CPU's number (0 to {})\n", argument.substr(0, 40), last - 1);
    last = first + 1;
  }
  std::string out;
  for (unsigned vcpu = first; vcpu < last; ++vcpu) {
    std::string text = name == "registers" ? target_.registers(vcpu)
                       : name == "tlb"     ? target_.tlb(vcpu)
                       : name == "jit"     ? target_.jit(vcpu)
                                           : target_.events(vcpu);
    if (text.empty()) text = "nothing to show\n";
    if (last - first > 1) out += fmt::format("cpu {}:\n", vcpu);
    out += text;
    if (!out.ends_with('\n')) out += '\n';
  }
  return out;
}

std::string Monitor::grow(std::string_view disk, std::string_view size) {
  if (!disk.empty() && size.empty()) return target_.refresh_disk(std::string(disk));
  const auto bytes = parse_size(size);
  if (disk.empty() || !bytes) return "grow what, to what size? grow vda 20G (info block has the names)\n";
  return target_.grow_disk(std::string(disk), bytes.value());
}

std::string Monitor::link(std::string_view card, std::string_view state) {
  if (card.empty() || (state != "on" && state != "off")) return "link what, on or off? link net0 off\n";
  return target_.set_link(std::string(card), state == "on");
}

std::string Monitor::execute(std::string_view line) {
  const std::string_view word = next_word(line);
  if (word.empty()) return {};
  const auto found = find(commands, word);
  if (!found) return found.error().message() + "\n";
  const std::string_view name = found.value();
  const std::string_view argument = next_word(line);

  if (name == "help") return help_text();
  if (name == "info") return info(argument, next_word(line));
  if (name == "grow") return grow(argument, next_word(line));
  if (name == "link") return link(argument, next_word(line));
  if (name == "save") return "the machine's process may not make files; on the host do: veneer save NAME FILE\n";
  if (!argument.empty()) return fmt::format("{} takes no argument\n", name);
  if (name == "pause") target_.pause();
  if (name == "resume") target_.resume();
  if (name == "reset") target_.reset();
  if (name == "powerdown") target_.power_button();
  if (name == "quit") target_.quit();
  return {};
}

}  // namespace veneer::cli
