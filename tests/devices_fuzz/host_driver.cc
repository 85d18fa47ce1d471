// The host's side of the balloon and the console: sizes asked for, statistics, what is typed, a window that changes.
#include <array>

#include "devices/virtio/virtio_balloon.h"
#include "devices/virtio/virtio_console.h"
#include "drivers.h"

namespace veneer::devices_fuzz {
namespace {

class HostDriver final : public Driver {
 public:
  const char* name() const override { return "host"; }

  void step(Bench& bench, Choices& choices) override {
    const std::lock_guard hold(bench.lock);
    devices::VirtioBalloon& balloon = *bench.board->balloon();
    devices::VirtioConsole& console = *bench.board->console();
    switch (choices.below(4)) {
      case 0:
        return balloon.set_target(choices.wrong(4) ? choices.value() : choices.below(Bench::ram_end));
      case 1:
        return ask(balloon);
      case 2:
        return type(console, choices);
      default:
        return console.set_size(static_cast<std::uint16_t>(choices.bits(8)),
                                static_cast<std::uint16_t>(choices.bits(8)));
    }
  }

 private:
  /// Whoever has asked is answered, by a reset if need be, and once.
  void ask(devices::VirtioBalloon& balloon) {
    const bool asked = balloon.ask_statistics([this] {
      if (!waiting_) broken("an answer that nobody waits for");
      waiting_ = false;
    });
    if (asked && waiting_) broken("a question before the last one was answered");
    waiting_ = waiting_ || asked;
  }

  static void type(devices::VirtioConsole& console, Choices& choices) {
    std::array<std::uint8_t, 2 * devices::VirtioConsole::input_bytes_max> text{};
    const std::size_t count = choices.one_in(4) ? text.size() : choices.below(64);
    const std::size_t room = console.receive_room();
    console.receive(std::span<const std::uint8_t>(text).first(count));
    if (room > devices::VirtioConsole::input_bytes_max) broken("the console has more room than there is");
  }

  bool waiting_ = false;
};

}  // namespace

std::unique_ptr<Driver> make_host_driver() { return std::make_unique<HostDriver>(); }

}  // namespace veneer::devices_fuzz
