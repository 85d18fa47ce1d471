// Saving, restoring, states that somebody damaged, and resets.
#include "drivers.h"

namespace veneer::devices_fuzz {
namespace {

class StateDriver final : public Driver {
 public:
  const char* name() const override { return "state"; }

  void step(Bench& bench, Choices& choices) override {
    if (!choices.one_in(16)) return;  // each of these costs as much as hundreds of other steps
    if (choices.one_in(3)) return reset(bench);
    std::vector<std::byte> state = bench.save();
    if (choices.one_in(2)) {
      if (!bench.restore(state) && !odd_) broken("a board does not take its own state");
      if (bench.save() != state && !odd_) broken("a restored board saves another state");
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
