// The table of keys, and how names and characters find theirs.
#include "devices/input/keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace veneer::devices {
namespace {

struct Row {
  std::string_view name;
  std::uint8_t key;  // enum Key
  std::uint8_t set2, set3;
  char plain = 0, shifted = 0;  // what it types on a US keyboard
};

constexpr auto rows = std::to_array<Row>({
    {"esc", 0x01, 0x76, 0x08},
    {"1", 0x02, 0x16, 0x16, '1', '!'},
    {"2", 0x03, 0x1e, 0x1e, '2', '@'},
    {"3", 0x04, 0x26, 0x26, '3', '#'},
    {"4", 0x05, 0x25, 0x25, '4', '$'},
    {"5", 0x06, 0x2e, 0x2e, '5', '%'},
    {"6", 0x07, 0x36, 0x36, '6', '^'},
    {"7", 0x08, 0x3d, 0x3d, '7', '&'},
    {"8", 0x09, 0x3e, 0x3e, '8', '*'},
    {"9", 0x0a, 0x46, 0x46, '9', '('},
    {"0", 0x0b, 0x45, 0x45, '0', ')'},
    {"minus", 0x0c, 0x4e, 0x4e, '-', '_'},
    {"equal", 0x0d, 0x55, 0x55, '=', '+'},
    {"backspace", 0x0e, 0x66, 0x66},
    {"tab", 0x0f, 0x0d, 0x0d, '\t'},
    {"q", 0x10, 0x15, 0x15, 'q', 'Q'},
    {"w", 0x11, 0x1d, 0x1d, 'w', 'W'},
    {"e", 0x12, 0x24, 0x24, 'e', 'E'},
    {"r", 0x13, 0x2d, 0x2d, 'r', 'R'},
    {"t", 0x14, 0x2c, 0x2c, 't', 'T'},
    {"y", 0x15, 0x35, 0x35, 'y', 'Y'},
    {"u", 0x16, 0x3c, 0x3c, 'u', 'U'},
    {"i", 0x17, 0x43, 0x43, 'i', 'I'},
    {"o", 0x18, 0x44, 0x44, 'o', 'O'},
    {"p", 0x19, 0x4d, 0x4d, 'p', 'P'},
    {"bracket_left", 0x1a, 0x54, 0x54, '[', '{'},
    {"bracket_right", 0x1b, 0x5b, 0x5b, ']', '}'},
    {"ret", 0x1c, 0x5a, 0x5a, '\n'},
    {"ctrl", 0x1d, 0x14, 0x11},
    {"a", 0x1e, 0x1c, 0x1c, 'a', 'A'},
    {"s", 0x1f, 0x1b, 0x1b, 's', 'S'},
    {"d", 0x20, 0x23, 0x23, 'd', 'D'},
    {"f", 0x21, 0x2b, 0x2b, 'f', 'F'},
    {"g", 0x22, 0x34, 0x34, 'g', 'G'},
    {"h", 0x23, 0x33, 0x33, 'h', 'H'},
    {"j", 0x24, 0x3b, 0x3b, 'j', 'J'},
    {"k", 0x25, 0x42, 0x42, 'k', 'K'},
    {"l", 0x26, 0x4b, 0x4b, 'l', 'L'},
    {"semicolon", 0x27, 0x4c, 0x4c, ';', ':'},
    {"apostrophe", 0x28, 0x52, 0x52, '\'', '"'},
    {"grave", 0x29, 0x0e, 0x0e, '`', '~'},
    {"shift", 0x2a, 0x12, 0x12},
    {"backslash", 0x2b, 0x5d, 0x5c, '\\', '|'},
    {"z", 0x2c, 0x1a, 0x1a, 'z', 'Z'},
    {"x", 0x2d, 0x22, 0x22, 'x', 'X'},
    {"c", 0x2e, 0x21, 0x21, 'c', 'C'},
    {"v", 0x2f, 0x2a, 0x2a, 'v', 'V'},
    {"b", 0x30, 0x32, 0x32, 'b', 'B'},
    {"n", 0x31, 0x31, 0x31, 'n', 'N'},
    {"m", 0x32, 0x3a, 0x3a, 'm', 'M'},
    {"comma", 0x33, 0x41, 0x41, ',', '<'},
    {"dot", 0x34, 0x49, 0x49, '.', '>'},
    {"slash", 0x35, 0x4a, 0x4a, '/', '?'},
    {"shift_r", 0x36, 0x59, 0x59},
    {"kp_multiply", 0x37, 0x7c, 0x7e},
    {"alt", 0x38, 0x11, 0x19},
    {"spc", 0x39, 0x29, 0x29, ' '},
    {"caps_lock", 0x3a, 0x58, 0x14},
    {"f1", 0x3b, 0x05, 0x07},
    {"f2", 0x3c, 0x06, 0x0f},
    {"f3", 0x3d, 0x04, 0x17},
    {"f4", 0x3e, 0x0c, 0x1f},
    {"f5", 0x3f, 0x03, 0x27},
    {"f6", 0x40, 0x0b, 0x2f},
    {"f7", 0x41, 0x83, 0x37},
    {"f8", 0x42, 0x0a, 0x3f},
    {"f9", 0x43, 0x01, 0x47},
    {"f10", 0x44, 0x09, 0x4f},
    {"num_lock", 0x45, 0x77, 0x76},
    {"scroll_lock", 0x46, 0x7e, 0x5f},
    {"kp_7", 0x47, 0x6c, 0x6c},
    {"kp_8", 0x48, 0x75, 0x75},
    {"kp_9", 0x49, 0x7d, 0x7d},
    {"kp_subtract", 0x4a, 0x7b, 0x84},
    {"kp_4", 0x4b, 0x6b, 0x6b},
    {"kp_5", 0x4c, 0x73, 0x73},
    {"kp_6", 0x4d, 0x74, 0x74},
    {"kp_add", 0x4e, 0x79, 0x7c},
    {"kp_1", 0x4f, 0x69, 0x69},
    {"kp_2", 0x50, 0x72, 0x72},
    {"kp_3", 0x51, 0x7a, 0x7a},
    {"kp_0", 0x52, 0x70, 0x70},
    {"kp_decimal", 0x53, 0x71, 0x71},
    {"less", 0x56, 0x61, 0x13},  // beside the left Shift, on keyboards with 102 keys
    {"f11", 0x57, 0x78, 0x56},
    {"f12", 0x58, 0x07, 0x5e},
    {"kp_enter", 0x9c, 0x5a, 0x79},
    {"ctrl_r", 0x9d, 0x14, 0x58},
    {"kp_divide", 0xb5, 0x4a, 0x77},
    {"print", 0xb7, 0x7c, 0x57},
    {"alt_r", 0xb8, 0x11, 0x39},
    {"pause", 0xc6, 0x7e, 0x62},
    {"home", 0xc7, 0x6c, 0x6e},
    {"up", 0xc8, 0x75, 0x63},
    {"pgup", 0xc9, 0x7d, 0x6f},
    {"left", 0xcb, 0x6b, 0x61},
    {"right", 0xcd, 0x74, 0x6a},
    {"end", 0xcf, 0x69, 0x65},
    {"down", 0xd0, 0x72, 0x60},
    {"pgdn", 0xd1, 0x7a, 0x6d},
    {"insert", 0xd2, 0x70, 0x67},
    {"delete", 0xd3, 0x71, 0x64},
    {"meta_l", 0xdb, 0x1f, 0x8b},
    {"meta_r", 0xdc, 0x27, 0x8c},
    {"menu", 0xdd, 0x2f, 0x8d},
});

/// Other names that people try.
struct Alias {
  std::string_view alias, name;
};
constexpr auto aliases = std::to_array<Alias>({
    {"enter", "ret"},
    {"return", "ret"},
    {"escape", "esc"},
    {"space", "spc"},
    {"del", "delete"},
    {"ins", "insert"},
    {"control", "ctrl"},
    {"win", "meta_l"},
    {"page_up", "pgup"},
    {"page_down", "pgdn"},
    {"sysrq", "print"},
    {"asterisk", "kp_multiply"},
});

const Row* find(std::string_view name) {
  for (const Alias& alias : aliases)
    if (alias.alias == name) name = alias.name;
  const auto row = std::find_if(rows.begin(), rows.end(), [&](const Row& r) {
    return r.name == name || (name.size() == 1 && r.plain == name[0] && r.plain > ' ');
  });
  return row == rows.end() ? nullptr : &*row;
}

}  // namespace

std::optional<KeyCodes> codes_of(Key key) {
  const auto number = static_cast<std::uint8_t>(key);
  const auto row = std::find_if(rows.begin(), rows.end(), [&](const Row& r) { return r.key == number; });
  if (row == rows.end()) return std::nullopt;
  return KeyCodes{(number & 0x80) != 0, static_cast<std::uint8_t>(number & 0x7f), row->set2, row->set3};
}

Result<std::vector<KeyEvent>> parse_chord(std::string_view text) {
  std::vector<KeyEvent> events;
  for (std::string_view rest = text;;) {
    const std::size_t end = std::min(rest.find('-', 1), rest.size());  // a lone "-" is the minus key
    const std::string_view name = rest.substr(0, end);
    const Row* const row = find(name);
    if (row == nullptr) return Error(fmt::format("there is no key \"{}\" (keys: {})", name.substr(0, 40), key_names()));
    events.push_back({static_cast<Key>(row->key), true});
    if (end == rest.size()) break;
    rest.remove_prefix(end + 1);
  }
  constexpr std::size_t fingers = 10;
  if (events.size() > fingers) return Error(fmt::format("at most {} keys at once", fingers));
  for (std::size_t i = events.size(); i-- > 0;) events.push_back({events[i].key, false});
  return events;
}

Result<std::vector<KeyEvent>> keys_for_text(std::string_view text) {
  std::vector<KeyEvent> events;
  for (const char character : text) {
    const auto row = std::find_if(rows.begin(), rows.end(), [&](const Row& r) {
      return character != 0 && (r.plain == character || r.shifted == character);
    });
    if (row == rows.end())
      return Error(fmt::format("no key types the character {:#04x}: only printable ASCII can be typed",
                               static_cast<unsigned char>(character)));
    const bool shift = row->plain != character;
    if (shift) events.push_back({Key::LeftShift, true});
    events.push_back({static_cast<Key>(row->key), true});
    events.push_back({static_cast<Key>(row->key), false});
    if (shift) events.push_back({Key::LeftShift, false});
  }
  return events;
}

std::string key_names() {
  std::string out;
  for (const Row& row : rows) out += fmt::format("{}{}", out.empty() ? "" : " ", row.name);
  return out;
}

}  // namespace veneer::devices
