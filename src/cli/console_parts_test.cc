// The parts of the console: escape keys, the line editor, the monitor's commands, the queues.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "base/fd.h"
#include "cli/escape_keys.h"
#include "cli/guest_input.h"
#include "cli/line_editor.h"
#include "cli/monitor.h"
#include "cli/options.h"
#include "cli/output_queue.h"

namespace veneer::cli {
namespace {

using Action = EscapeKeys::Action;

std::span<const std::uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}
std::string text_of(std::span<const std::uint8_t> bytes) { return {bytes.begin(), bytes.end()}; }

struct Typed {
  std::string plain;
  Action action;
  std::size_t consumed;
};
Typed type(EscapeKeys& keys, std::string_view text) {
  std::vector<std::uint8_t> plain;
  const auto step = keys.feed(bytes_of(text), plain);
  return {text_of(plain), step.action, step.consumed};
}

TEST(EscapeKeys, PlainTextPasses) {
  EscapeKeys keys;
  EXPECT_EQ(type(keys, "ls\r").plain, "ls\r");
}
TEST(EscapeKeys, QuitStopsTheFeed) {
  EscapeKeys keys;
  const Typed typed = type(keys, "ab\x01xcd");
  EXPECT_EQ(typed.plain, "ab");
  EXPECT_EQ(typed.action, Action::Quit);
  EXPECT_EQ(typed.consumed, 4u);
}
TEST(EscapeKeys, PressesThePowerButton) {
  EscapeKeys keys;
  EXPECT_EQ(type(keys, "\x01p").action, Action::Power);
}
TEST(EscapeKeys, SequenceSplitBetweenReads) {
  EscapeKeys keys;
  EXPECT_EQ(type(keys, "\x01").plain, "");
  EXPECT_TRUE(keys.armed());
  EXPECT_EQ(type(keys, "c").action, Action::Monitor);
}
TEST(EscapeKeys, TwiceSendsOne) {
  EscapeKeys keys;
  EXPECT_EQ(type(keys, "\x01\x01").plain, "\x01");
  EXPECT_FALSE(keys.armed());
}
TEST(EscapeKeys, UnknownKeyPassesWithItsPrefix) {
  EscapeKeys keys;
  EXPECT_EQ(type(keys,
                 "\x01"
                 "b")
                .plain,
            "\x01"
            "b");
}
TEST(EscapeKeys, Help) {
  EscapeKeys keys;
  EXPECT_EQ(type(keys, "\x01h").action, Action::Help);
}

std::string enter(LineEditor& editor, std::string_view text) {
  std::string line = "(none)";
  for (const char c : text)
    if (const auto result = editor.key(static_cast<std::uint8_t>(c)); result.line) line = *result.line;
  return line;
}

TEST(LineEditor, EnterGivesTheLine) {
  LineEditor editor;
  EXPECT_EQ(enter(editor, "info jit\r"), "info jit");
}
TEST(LineEditor, BackspaceTakesOneBack) {
  LineEditor editor;
  EXPECT_EQ(enter(editor,
                  "resumf\x7f"
                  "e\r"),
            "resume");
}
TEST(LineEditor, ControlUClears) {
  LineEditor editor;
  EXPECT_EQ(enter(editor, "quit\x15help\r"), "help");
}
TEST(LineEditor, CursorKeysAreSwallowed) {
  LineEditor editor;
  EXPECT_EQ(enter(editor, "\x1b[Ahe\x1b[1;5Clp\r"), "help");
}
TEST(LineEditor, CrLfIsOneEnter) {
  LineEditor editor;
  EXPECT_EQ(enter(editor, "help\r"), "help");
  EXPECT_FALSE(editor.key('\n').line.has_value());
}
TEST(LineEditor, ControlDLeavesAnEmptyLine) {
  LineEditor editor;
  EXPECT_TRUE(editor.key(4).leave);
}
TEST(LineEditor, ControlDDoesNotLeaveText) {
  LineEditor editor;
  editor.key('a');
  EXPECT_FALSE(editor.key(4).leave);
}
TEST(LineEditor, LongLinesAreCut) {
  LineEditor editor;
  EXPECT_EQ(enter(editor, std::string(5000, 'a') + "\r").size(), LineEditor::longest_line);
}

class FakeMachine final : public MonitorTarget {
 public:
  unsigned vcpu_count() const override { return 2; }
  std::string registers(unsigned vcpu) override { return fmt::format("R{}", vcpu); }
  std::string tlb(unsigned) override { return "T\n"; }
  std::string jit(unsigned) override { return {}; }
  std::string events(unsigned) override { return "E\n"; }
  std::string status() override { return "running\n"; }
  std::string disks() override { return "vda\n"; }
  std::string network() override { return "net0\n"; }
  std::string balloon() override { return "given\n"; }
  std::string set_guest_memory(std::uint64_t bytes) override { return fmt::format("{}\n", bytes); }
  std::string set_link(std::string card, bool up) override { return card + (up ? " in\n" : " out\n"); }
  std::string grow_disk(std::string disk, std::uint64_t size_bytes) override {
    return disk + " " + std::to_string(size_bytes) + "\n";
  }
  std::string refresh_disk(std::string disk) override { return disk + " looked at\n"; }
  std::string screen() override { return "BIOS\n"; }
  std::string press_keys(std::vector<devices::KeyEvent> events) override {
    keys.insert(keys.end(), events.begin(), events.end());
    return {};
  }
  std::string move_mouse(int dx, int dy, int wheel) override { return fmt::format("{} {} {}\n", dx, dy, wheel); }
  std::string set_mouse_buttons(std::uint8_t buttons) override { return fmt::format("{}\n", buttons); }
  void pause() override { did += "pause "; }
  void resume() override { did += "resume "; }
  void reset() override { did += "reset "; }
  void power_button() override { did += "power "; }
  void quit() override { did += "quit "; }
  std::string did;
  std::vector<devices::KeyEvent> keys;
};

struct MonitorTest : testing::Test {
  FakeMachine machine;
  Monitor monitor{machine};
};

TEST_F(MonitorTest, RegistersOfAllCpus) { EXPECT_EQ(monitor.execute("info registers"), "cpu 0:\nR0\ncpu 1:\nR1\n"); }
TEST_F(MonitorTest, RegistersOfOneCpu) { EXPECT_EQ(monitor.execute("info registers 1"), "R1\n"); }
TEST_F(MonitorTest, CpuThatIsNotThere) {
  EXPECT_EQ(monitor.execute("info registers 2"), "\"2\" is not a CPU's number (0 to 1)\n");
}
TEST_F(MonitorTest, EngineWithNothingToShow) { EXPECT_EQ(monitor.execute("info jit 0"), "nothing to show\n"); }
TEST_F(MonitorTest, Abbreviation) { EXPECT_EQ(monitor.execute("i r 0"), "R0\n"); }
TEST_F(MonitorTest, AmbiguousAbbreviation) { EXPECT_EQ(monitor.execute("res"), "\"res\" could be reset or resume\n"); }
TEST_F(MonitorTest, UnknownCommand) {
  EXPECT_EQ(monitor.execute("xyzzy"), "\"xyzzy\" is no command here; help lists them\n");
}
TEST_F(MonitorTest, InfoScreen) { EXPECT_EQ(monitor.execute("info screen"), "BIOS\n"); }
TEST_F(MonitorTest, SendKey) {
  EXPECT_EQ(monitor.execute("sendkey ctrl-c ret"), "");
  EXPECT_EQ(machine.keys.size(), 6u);
}
TEST_F(MonitorTest, SendUnknownKey) { EXPECT_THAT(monitor.execute("sendkey hyper"), testing::HasSubstr("\"hyper\"")); }
TEST_F(MonitorTest, TypeKeepsSpacesAndKnowsEnter) {
  EXPECT_EQ(monitor.execute("type  a b\\n"), "");
  EXPECT_EQ(machine.keys, devices::keys_for_text(" a b\n").value());
}
TEST_F(MonitorTest, TypeKnowsNoOtherEscapes) {
  EXPECT_NE(monitor.execute("type a\\x"), "");
  EXPECT_TRUE(machine.keys.empty());
}
TEST_F(MonitorTest, MouseMoves) { EXPECT_EQ(monitor.execute("mouse_move 10 -5"), "10 -5 0\n"); }
TEST_F(MonitorTest, MouseWheel) { EXPECT_EQ(monitor.execute("mouse_move 0 0 1"), "0 0 1\n"); }
TEST_F(MonitorTest, MouseMovesByNumbers) {
  EXPECT_THAT(monitor.execute("mouse_move x 1"), testing::HasSubstr("how far"));
}
TEST_F(MonitorTest, MouseButtons) { EXPECT_EQ(monitor.execute("mouse_button left+right"), "3\n"); }
TEST_F(MonitorTest, MouseButtonsUp) { EXPECT_EQ(monitor.execute("mouse_button none"), "0\n"); }
TEST_F(MonitorTest, UnknownMouseButton) { EXPECT_THAT(monitor.execute("mouse_button up"), testing::HasSubstr("none")); }
TEST_F(MonitorTest, ScreenshotTellsTheWay) {
  EXPECT_THAT(monitor.execute("screenshot x.png"), testing::HasSubstr("veneer screenshot"));
}
TEST_F(MonitorTest, InfoBlock) { EXPECT_EQ(monitor.execute("info block"), "vda\n"); }
TEST_F(MonitorTest, InfoBalloon) { EXPECT_EQ(monitor.execute("info balloon"), "given\n"); }
TEST_F(MonitorTest, GuestMemory) { EXPECT_EQ(monitor.execute("balloon 1M"), "1048576\n"); }
TEST_F(MonitorTest, GuestMemoryOfNoSize) {
  EXPECT_THAT(monitor.execute("balloon"), testing::HasSubstr("balloon 256M"));
  EXPECT_THAT(monitor.execute("balloon much"), testing::HasSubstr("balloon 256M"));
}
TEST_F(MonitorTest, GrowADisk) { EXPECT_EQ(monitor.execute("grow vda 1M"), "vda 1048576\n"); }
TEST_F(MonitorTest, GrowWithoutASize) { EXPECT_EQ(monitor.execute("grow vda"), "vda looked at\n"); }
TEST_F(MonitorTest, GrowToNoSize) {
  EXPECT_NE(monitor.execute("grow vda much").find("grow vda 20G"), std::string::npos);
}
TEST_F(MonitorTest, EmptyLine) { EXPECT_EQ(monitor.execute("  "), ""); }
TEST_F(MonitorTest, Pause) {
  EXPECT_EQ(monitor.execute("pause"), "");
  EXPECT_EQ(machine.did, "pause ");
}
TEST_F(MonitorTest, PowerDown) {
  monitor.execute("powerdown");
  EXPECT_EQ(machine.did, "power ");
}
TEST_F(MonitorTest, QuitWithAnArgumentDoesNothing) {
  EXPECT_EQ(monitor.execute("quit now"), "quit takes no argument\n");
  EXPECT_EQ(machine.did, "");
}
TEST_F(MonitorTest, InfoVersion) { EXPECT_EQ(monitor.execute("info version"), fmt::format("veneer {}\n", version())); }

TEST(GuestInput, DeliversWhatTheReceiverTakes) {
  GuestInput input;
  std::string received;
  const auto receive = [&](std::span<const std::uint8_t> bytes) { received += text_of(bytes); };
  EXPECT_EQ(input.offer(bytes_of("hello")), 5u);
  input.deliver(3, receive);
  EXPECT_EQ(received, "hel");
  input.deliver(16, receive);
  EXPECT_EQ(received, "hello");
}
TEST(GuestInput, AsksForDelivery) {
  GuestInput input;
  int requests = 0;
  input.set_request([&] { ++requests; });
  input.offer(bytes_of("x"));
  EXPECT_EQ(requests, 1);
}
TEST(GuestInput, IsBoundedAndTellsWhenThereIsRoom) {
  GuestInput input;
  bool room = false;
  input.add_room_listener([&] { room = true; });
  const std::vector<std::uint8_t> much(GuestInput::capacity_bytes + 1);
  EXPECT_EQ(input.offer(much), GuestInput::capacity_bytes);
  input.deliver(1, [](std::span<const std::uint8_t>) {});
  EXPECT_TRUE(room);
}

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    EXPECT_EQ(pipe(ends.data()), 0);
    read = Fd(ends[0]);
    write = Fd(ends[1]);
  }
  Fd read, write;
};
constexpr std::chrono::milliseconds short_patience{100};

TEST(OutputQueue, BytesArriveInOrder) {
  Pipe pipe;
  OutputQueue queue(pipe.write.get(), "the pipe");
  queue.write(bytes_of("one "));
  queue.write(bytes_of("two"));
  queue.finish(short_patience);
  std::array<char, 16> buffer{};
  EXPECT_EQ(::read(pipe.read.get(), buffer.data(), buffer.size()), 7);
  EXPECT_STREQ(buffer.data(), "one two");
}
TEST(OutputQueue, ReaderThatHasGoneIsSaidOnceAndCounted) {
  std::signal(SIGPIPE, SIG_IGN);
  Pipe pipe;
  pipe.read.reset();
  testing::internal::CaptureStderr();
  OutputQueue queue(pipe.write.get(), "the pipe");
  queue.write(bytes_of("12345"));
  queue.finish(short_patience);
  const std::string said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("the pipe can no longer be written"), std::string::npos) << said;
  EXPECT_NE(said.find("5 bytes of the guest's output"), std::string::npos) << said;
}
TEST(OutputQueue, AbandonEndsTheWaitForAStuckReader) {
  std::signal(SIGPIPE, SIG_IGN);  // as cli::Signals does; the queue's thread may write once more after the pipe is gone
  Pipe pipe;
  testing::internal::CaptureStderr();
  OutputQueue queue(pipe.write.get(), "the pipe");
  const std::vector<std::uint8_t> much(OutputQueue::capacity_bytes * 2, 'x');
  std::thread guest([&] { queue.write(much); });
  queue.abandon();
  guest.join();
  queue.finish(short_patience);
  EXPECT_NE(testing::internal::GetCapturedStderr().find("could not be written"), std::string::npos);
}
TEST(OutputQueue, SlowReaderGetsEverything) {
  Pipe pipe;
  const std::vector<std::uint8_t> much(OutputQueue::capacity_bytes * 2, 'x');
  std::size_t total = 0;
  std::thread reader([&] {
    std::array<char, 8192> buffer;
    for (ssize_t n = 0; (n = ::read(pipe.read.get(), buffer.data(), buffer.size())) > 0;)
      total += static_cast<std::size_t>(n);
  });
  {
    OutputQueue queue(pipe.write.get(), "the pipe");
    queue.write(much);
    queue.finish(std::chrono::seconds(5));
  }
  pipe.write.reset();
  reader.join();
  EXPECT_EQ(total, much.size());
}

}  // namespace
}  // namespace veneer::cli
