// Saving, restoring, states that somebody damaged, and resets.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <string>

#include "drivers.h"

namespace veneer::devices_fuzz {
namespace {

/// Where two states part: the byte, and the section that it is in, which is the last text before it.
std::string first_difference(const std::vector<std::byte>& one, const std::vector<std::byte>& other) {
  const auto [at, there] = std::ranges::mismatch(one, other);
  const auto is_text = [](std::byte byte) {
    return std::isalnum(std::to_integer<int>(byte)) || byte == std::byte{'_'} || byte == std::byte{'-'};
  };
  std::string section;
  auto begin = at;  // of the section
  for (auto end = at; end != one.begin() && section.size() < 4; --end) {
    section.clear();
    begin = end;
    for (auto text = end; text != one.begin() && is_text(*(text - 1)); --text)
      section.insert(section.begin(), static_cast<char>(*(text - 1)));
  }
  return fmt::format("of {} and {} bytes; byte {} behind '{}', {:#x} and {:#x}", one.size(), other.size(), at - begin,
                     section, at == one.end() ? 0 : std::to_integer<int>(*at),
                     there == other.end() ? 0 : std::to_integer<int>(*there));
}

class StateDriver final : public Driver {
 public:
  const char* name() const override { return "state"; }

  void step(Bench& bench, Choices& choices) override {
    if (!choices.one_in(16)) return;  // each of these costs as much as hundreds of other steps
    if (choices.one_in(3)) return reset(bench);
    std::vector<std::byte> state = bench.save();
    if (choices.one_in(2)) {
      if (!bench.restore(state) && !odd_) broken("a board does not take its own state");
      if (const std::vector<std::byte> again = bench.save(); again != state && !odd_)
        broken("a restored board saves another state: " + first_difference(state, again));
      return;
    }
    for (std::uint64_t n = 1 + choices.below(8); n != 0 && !state.empty(); --n)
      state[choices.below(state.size())] = static_cast<std::byte>(choices.value());
    if (choices.one_in(4)) state.resize(choices.below(state.size()));
    // A machine whose state was refused never runs; one with a changed value does.
    odd_ = true;
    if (!bench.restore(state)) reset(bench);
  }

 private:
  void reset(Bench& bench) {
    bench.reset();
    odd_ = false;
  }

  bool odd_ = false;  ///< in a state that no guest brings about: it may be refused
};

}  // namespace

std::unique_ptr<Driver> make_state_driver() { return std::make_unique<StateDriver>(); }

}  // namespace veneer::devices_fuzz
