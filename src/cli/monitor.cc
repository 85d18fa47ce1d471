// The monitor: finding the command of a line and carrying it out.
#include "cli/monitor.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <span>
#include <string>
#include <vector>

#include "cli/options.h"
#include "cli/size.h"
#include "devices/input/ps2_mouse.h"

namespace veneer::cli {
namespace {

struct Command {
  std::string_view name;
  std::string_view help;
};

constexpr Command commands[] = {
    {"balloon", "balloon SIZE: asks the guest to make do with so much memory (info balloon shows what it does)"},
    {"grow", "grow DISK [SIZE]: a larger disk while the guest runs; without SIZE as large as its image has become"},
    {"help", "this list"},
    {"info",
     "info registers|tlb|jit|events [CPU], info balloon, info block, info network, info screen, info status, info "
     "version"},
    {"link", "link NET on|off: plugs in or pulls out a card's cable (info network has the names)"},
    {"mouse_button", "mouse_button left|middle|right|none, several with + between: the buttons that are down now"},
    {"mouse_move", "mouse_move DX DY [WHEEL]: moves the mouse; right and down are positive"},
    {"pause", "stop the virtual CPUs and the guest's clock"},
    {"powerdown", "press the power button"},
    {"quit", "end the machine at once, like pulling the plug"},
    {"reset", "press the reset button"},
    {"resume", "go on after pause"},
    {"save", "save FILE: the whole machine to a file; from veneer monitor NAME only"},
    {"screenshot", "screenshot FILE: the screen as a PNG file; from veneer monitor NAME only"},
    {"sendkey", "sendkey KEYS...: presses keys, such as ctrl-alt-delete or ret (a wrong name lists all)"},
    {"type", "type TEXT: types on the guest's keyboard; \\n is Enter, \\t Tab, \\\\ a backslash"},
};

constexpr Command info_commands[] = {
    {"balloon", "memory given back to the host"},
    {"block", "the disks and what they did"},
    {"events", "the last events of a CPU"},
    {"jit", "the translator's counters"},
    {"network", "the network cards and what they did"},
    {"registers", "the registers of a CPU"},
    {"screen", "what the screen shows, as text"},
    {"status", "running or paused"},
    {"tlb", "the software TLB's contents"},
    {"version", "Veneer's version"},
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
  for (const Command& command : commands) out += fmt::format("{:<12} {}\n", command.name, command.help);
  return out + "Ctrl-A c leaves this prompt, Ctrl-A x ends the machine.\n";
}

}  // namespace

std::string Monitor::info(std::string_view what, std::string_view argument) {
  if (what.empty())
    return "info what? registers, tlb, jit, events, balloon, block, network, screen, status or version\n";
  const auto found = find(info_commands, what);
  if (!found) return found.error().message() + "\n";
  const std::string_view name = found.value();
  if (name == "version") return fmt::format("veneer {}\n", version());
  if (name == "status") return target_.status();
  if (name == "balloon") return target_.balloon();
  if (name == "block") return target_.disks();
  if (name == "screen") return target_.screen();
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

std::string Monitor::balloon(std::string_view size) {
  const auto bytes = parse_size(size);
  if (!bytes) return "how much memory for the guest? balloon 256M (info balloon shows what it has)\n";
  return target_.set_guest_memory(bytes.value());
}

std::string Monitor::link(std::string_view card, std::string_view state) {
  if (card.empty() || (state != "on" && state != "off")) return "link what, on or off? link net0 off\n";
  return target_.set_link(std::string(card), state == "on");
}

std::string Monitor::send_keys(std::string_view chords) {
  std::vector<devices::KeyEvent> events;
  for (std::string_view word = next_word(chords); !word.empty(); word = next_word(chords)) {
    const auto chord = devices::parse_chord(word);
    if (!chord) return chord.error().message() + "\n";
    events.insert(events.end(), chord.value().begin(), chord.value().end());
  }
  if (events.empty()) return "which keys? sendkey ctrl-alt-delete\n";
  return target_.press_keys(std::move(events));
}

std::string Monitor::type(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '\\') {
      plain += text[i];
      continue;
    }
    const char escaped = ++i < text.size() ? text[i] : 0;
    if (escaped != 'n' && escaped != 't' && escaped != '\\')
      return "behind a backslash there may be n (Enter), t (Tab) or another backslash\n";
    plain += escaped == 'n' ? '\n' : escaped == 't' ? '\t' : '\\';
  }
  if (plain.empty()) return "type what? type root\\n\n";
  auto events = devices::keys_for_text(plain);
  return events ? target_.press_keys(std::move(events).value()) : events.error().message() + "\n";
}

std::string Monitor::move_mouse(std::string_view numbers) {
  std::array<int, 3> values{};
  std::size_t count = 0;
  for (std::string_view word = next_word(numbers); !word.empty(); word = next_word(numbers), ++count) {
    int value = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (count == values.size() || error != std::errc{} || end != word.data() + word.size()) return move_mouse({});
    values[count] = value;
  }
  if (count < 2) return "how far? mouse_move DX DY [WHEEL], such as mouse_move 10 -5\n";
  return target_.move_mouse(values[0], values[1], values[2]);
}

std::string Monitor::mouse_button(std::string_view names) {
  constexpr std::string_view usage = "which buttons? left, middle, right, several with + between, or none\n";
  if (names.empty()) return std::string(usage);
  std::uint8_t buttons = 0;
  while (!names.empty()) {
    const std::string_view name = names.substr(0, names.find('+'));
    names.remove_prefix(std::min(name.size() + 1, names.size()));
    if (name == "left")
      buttons |= devices::Ps2Mouse::LEFT;
    else if (name == "middle")
      buttons |= devices::Ps2Mouse::MIDDLE;
    else if (name == "right")
      buttons |= devices::Ps2Mouse::RIGHT;
    else if (name != "none")
      return std::string(usage);
  }
  return target_.set_mouse_buttons(buttons);
}

std::string Monitor::execute(std::string_view line) {
  const std::string_view word = next_word(line);
  if (word.empty()) return {};
  const auto found = find(commands, word);
  if (!found) return found.error().message() + "\n";
  const std::string_view name = found.value();
  if (name == "sendkey") return send_keys(line);
  if (name == "type") return type(line.substr(std::min<std::size_t>(1, line.size())));
  if (name == "mouse_move") return move_mouse(line);
  if (name == "mouse_button") return mouse_button(next_word(line));
  const std::string_view argument = next_word(line);

  if (name == "help") return help_text();
  if (name == "info") return info(argument, next_word(line));
  if (name == "grow") return grow(argument, next_word(line));
  if (name == "balloon") return balloon(argument);
  if (name == "link") return link(argument, next_word(line));
  if (name == "save") return "the machine's process may not make files; on the host do: veneer save NAME FILE\n";
  if (name == "screenshot")
    return "the machine's process may not make files; on the host do: veneer screenshot NAME FILE\n";
  if (!argument.empty()) return fmt::format("{} takes no argument\n", name);
  if (name == "pause") target_.pause();
  if (name == "resume") target_.resume();
  if (name == "reset") target_.reset();
  if (name == "powerdown") target_.power_button();
  if (name == "quit") target_.quit();
  return {};
}

}  // namespace veneer::cli
