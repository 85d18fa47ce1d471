// The run directory: claiming names, telling dead machines from living ones.
#include "host/run_directory.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>

namespace veneer::host {
namespace {

using testing::ElementsAre;
using testing::Field;
using testing::HasSubstr;

class RunDirectoryTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(::mkdtemp(runtime), nullptr);
    ::setenv("XDG_RUNTIME_DIR", runtime, 1);
  }
  void TearDown() override { [[maybe_unused]] const int status = std::system(("rm -rf " + base()).c_str()); }
  std::string base() const { return runtime; }
  bool exists(const std::string& path) const { return ::access((base() + "/veneer/" + path).c_str(), F_OK) == 0; }

  /// A process that claims the name, does `work` and is killed.
  void die_as(const std::string& name, const std::function<void(RunDirectory&)>& work) {
    const pid_t child = ::fork();
    if (child == 0) {
      auto claimed = RunDirectory::claim(name);
      if (claimed) work(claimed.value());
      ::raise(SIGKILL);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
  }
  char runtime[32] = "/tmp/veneer-test-XXXXXX";
};

TEST_F(RunDirectoryTest, AMachineIsFound) {
  auto claimed = RunDirectory::claim("web");
  ASSERT_TRUE(claimed.ok());
  auto found = find_machines();
  ASSERT_TRUE(found.ok());
  ASSERT_THAT(found.value().running, ElementsAre(Field(&RunningMachine::name, "web")));
  EXPECT_EQ(found.value().running[0].pid, ::getpid());
  EXPECT_FALSE(has_ended(found.value().running[0]));
}

TEST_F(RunDirectoryTest, NothingIsLeftAtTheEnd) {
  ASSERT_TRUE(RunDirectory::claim("web").ok());
  EXPECT_FALSE(exists("web"));
}

TEST_F(RunDirectoryTest, AnEndIsNoticed) {
  RunningMachine machine;
  {
    auto claimed = RunDirectory::claim("web");
    ASSERT_TRUE(claimed.ok());
    machine = find_machines().value().running.at(0);
  }
  EXPECT_TRUE(has_ended(machine));
}

TEST_F(RunDirectoryTest, ANameIsTakenOnce) {
  auto first = RunDirectory::claim("web");
  ASSERT_TRUE(first.ok());
  const auto second = RunDirectory::claim("web");
  ASSERT_FALSE(second.ok());
  EXPECT_THAT(second.error().message(), HasSubstr("a machine named \"web\" is running already (process "));
}

TEST_F(RunDirectoryTest, AutomaticNamesAreShortAndUnique) {
  auto first = RunDirectory::claim("");
  auto second = RunDirectory::claim("");
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first.value().name(), "vm1");
  EXPECT_EQ(second.value().name(), "vm2");
}

TEST_F(RunDirectoryTest, ADeadMachineIsClearedAway) {
  die_as("web", [](RunDirectory&) {});
  EXPECT_TRUE(exists("web"));
  auto found = find_machines();
  ASSERT_TRUE(found.ok());
  EXPECT_TRUE(found.value().running.empty());
  EXPECT_THAT(found.value().dead, ElementsAre(Field(&DeadMachine::name, "web")));
  EXPECT_FALSE(exists("web"));
}

TEST_F(RunDirectoryTest, TheNameOfADeadMachineCanBeTaken) {
  die_as("web", [](RunDirectory&) {});
  EXPECT_TRUE(RunDirectory::claim("web").ok());
}

TEST_F(RunDirectoryTest, LastWordsAreHeard) {
  die_as("web", [](RunDirectory& directory) {
    const int log = ::open(directory.log_path().c_str(), O_CREAT | O_WRONLY, 0600);
    [[maybe_unused]] const ssize_t n = ::write(log, "aargh\n", 6);
  });
  const auto found = find_machines();
  ASSERT_TRUE(found.ok());
  EXPECT_THAT(found.value().dead, ElementsAre(Field(&DeadMachine::last_words, "aargh\n")));
}

TEST_F(RunDirectoryTest, ADirectoryThatOthersMayWriteToIsRefused) {
  ::mkdir((base() + "/veneer").c_str(), 0700);
  ::chmod((base() + "/veneer").c_str(), 0777);
  const auto claimed = RunDirectory::claim("web");
  ASSERT_FALSE(claimed.ok());
  EXPECT_THAT(claimed.error().message(), HasSubstr("take over machines"));
}

TEST_F(RunDirectoryTest, ASymbolicLinkIsRefused) {
  ASSERT_EQ(::symlink("/tmp", (base() + "/veneer").c_str()), 0);
  EXPECT_FALSE(RunDirectory::claim("web").ok());
}

TEST_F(RunDirectoryTest, RaceForOneName) {
  constexpr int racers = 8;
  std::vector<pid_t> children;
  for (int i = 0; i < racers; ++i) {
    const pid_t child = ::fork();
    if (child == 0) {
      auto claimed = RunDirectory::claim("web");
      ::usleep(500'000);
      ::_exit(claimed.ok() ? 7 : 1);
    }
    children.push_back(child);
  }
  int winners = 0;
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 7) ++winners;
  }
  EXPECT_EQ(winners, 1);
}

TEST(MachineName, GoodOnes) {
  EXPECT_FALSE(name_problem("web"));
  EXPECT_FALSE(name_problem("a-b_c.9"));
}

TEST(MachineName, BadOnes) {
  for (const char* name : {"", ".", "..", "a/b", "-x", "a b", "\xc3\xa4"}) EXPECT_TRUE(name_problem(name)) << name;
  EXPECT_TRUE(name_problem(std::string(41, 'a')));
}

}  // namespace
}  // namespace veneer::host
