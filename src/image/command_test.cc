#include "image/command.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>

namespace veneer::image {
namespace {

using Clock = std::chrono::steady_clock;

Result<std::string> run(const std::vector<Command>& commands, std::string_view input = "") {
  std::string text;
  CommandWatch watch;
  watch.line = [&text](std::string_view line) { (text += line) += '|'; };
  TRY_VOID(run_commands(commands, input, watch));
  return text;
}

TEST(Commands, InputGoesThroughAll) {
  const auto text = run({{{"sed", "s/a/b/"}, {}}, {{"sed", "s/b/c/"}, {}}}, "a\nx\n");
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(text.value(), "c|x|");
}
TEST(Commands, EnvironmentIsTheCommandsOwn) {
  const auto text = run({{{"sh", "-c", "echo $VENEER_TEST"}, {"VENEER_TEST=here"}}});
  ASSERT_TRUE(text.ok());
  EXPECT_EQ(text.value(), "here|");
  EXPECT_EQ(std::getenv("VENEER_TEST"), nullptr);
}
TEST(Commands, FailureNamesProgramAndLastWords) {
  const auto text = run({{{"sh", "-c", "echo no luck >&2; exit 3"}, {}}});
  ASSERT_FALSE(text.ok());
  EXPECT_NE(text.error().message().find("sh ended with status 3"), std::string::npos);
  EXPECT_NE(text.error().message().find("no luck"), std::string::npos);
}
TEST(Commands, FirstOfTwoFailing) { EXPECT_FALSE(run({{{"sh", "-c", "echo part; exit 1"}, {}}, {{"cat"}, {}}}).ok()); }
TEST(Commands, MissingProgram) {
  const auto text = run({{{"veneer-no-such-program"}, {}}});
  ASSERT_FALSE(text.ok());
  EXPECT_NE(text.error().message().find("veneer-no-such-program"), std::string::npos);
}
TEST(Commands, MissingSecondProgramEndsTheFirst) {
  const auto begin = Clock::now();
  EXPECT_FALSE(run({{{"sleep", "600"}, {}}, {{"veneer-no-such-program"}, {}}}).ok());
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(60));
}
TEST(Commands, CancelEndsThem) {
  CommandWatch watch;
  watch.cancelled = [] { return true; };
  const auto begin = Clock::now();
  const auto done = run_commands({{{"sleep", "600"}, {}}, {{"cat"}, {}}}, "", watch);
  ASSERT_FALSE(done.ok());
  EXPECT_EQ(done.error().code(), ECANCELED);
  EXPECT_LT(Clock::now() - begin, std::chrono::seconds(60));
}
TEST(Commands, CancelLetsThemCleanUp) {
  std::string text;
  bool ready = false;
  CommandWatch watch;
  watch.cancelled = [&ready] { return ready; };
  watch.line = [&](std::string_view line) {
    text += line;
    ready = true;
  };
  EXPECT_FALSE(
      run_commands({{{"sh", "-c", "trap 'echo cleaned; exit 1' TERM; echo ready; while :; do sleep 0.1; done"}, {}}},
                   "", watch)
          .ok());
  EXPECT_TRUE(text.ends_with("cleaned")) << text;  // the shell may say in between that its sleep was terminated
}

}  // namespace
}  // namespace veneer::image
