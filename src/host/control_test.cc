// The control socket, both ends.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "host/control_client.h"
#include "host/control_server.h"

namespace veneer::host {
namespace {

using nlohmann::json;
using testing::HasSubstr;
constexpr std::chrono::milliseconds patience{20'000};

struct Sink final : machine::CharSink {
  void write(std::span<const std::uint8_t>) override {}
};

struct FakeTarget final : ControlTarget {
  MachineStatus status() override { return {"web", "running", "bt", "pc", 1, 64 << 20, 1000, 0.5, 2}; }
  std::string execute(const std::string& line) override { return "did " + line + "\n"; }
  void press_power_button() override { ++presses; }
  void end() override { ++ends; }
  Result<void> save(const Fd& file) override {
    if (::write(file.get(), "state", 5) != 5) return Error("cannot write");
    return {};
  }
  Result<void> screenshot(const Fd& file) override {
    if (::write(file.get(), "picture", 7) != 7) return Error("cannot write");
    return {};
  }
  std::size_t type(std::span<const std::uint8_t> bytes) override {
    const std::lock_guard lock(mutex);
    const std::size_t taken = std::min(bytes.size(), room);
    typed.append(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(taken));
    room -= taken;
    return taken;
  }
  std::string typed_so_far() {
    const std::lock_guard lock(mutex);
    return typed;
  }
  std::atomic<int> presses{0}, ends{0};
  std::mutex mutex;
  std::string typed;
  std::size_t room = 1 << 20;
};

class ControlTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(::mkdtemp(directory), nullptr);
    auto made = ControlServer::listen(std::string(directory) + "/control");
    ASSERT_TRUE(made.ok());
    server = std::move(made).value();
    server->start(target, hub);
  }
  void TearDown() override {
    server.reset();
    ::unlink((std::string(directory) + "/control").c_str());
    ::rmdir(directory);
  }
  ControlClient client() { return ControlClient::connect({"web", directory, ::getpid()}).value(); }
  /// Sends bytes as they are and reads up to the end of a line.
  std::string raw(const std::string& bytes) {
    Fd socket = client().take_socket();
    EXPECT_EQ(::send(socket.get(), bytes.data(), bytes.size(), 0), static_cast<ssize_t>(bytes.size()));
    std::string answer;
    char c = 0;
    while (::recv(socket.get(), &c, 1, 0) == 1 && c != '\n') answer += c;
    return answer;
  }
  template <typename Condition>
  bool eventually(Condition condition) {
    for (int i = 0; i < 2000; ++i) {
      if (condition()) return true;
      ::usleep(10'000);
    }
    return false;
  }
  char directory[32] = "/tmp/veneer-test-XXXXXX";
  FakeTarget target;
  Sink sink;
  ConsoleHub hub{sink};
  std::unique_ptr<ControlServer> server;
};

TEST_F(ControlTest, Status) {
  const auto reply = client().ask({{"command", "status"}}, patience);
  ASSERT_TRUE(reply.ok());
  EXPECT_EQ(reply.value()["name"], "web");
  EXPECT_EQ(reply.value()["pid"], ::getpid());
  EXPECT_EQ(reply.value()["memory_bytes"], 64 << 20);
}

TEST_F(ControlTest, SeveralRequestsOnOneConnection) {
  ControlClient one = client();
  EXPECT_EQ(one.ask({{"command", "monitor"}, {"line", "a"}}, patience).value()["output"], "did a\n");
  EXPECT_EQ(one.ask({{"command", "monitor"}, {"line", "b"}}, patience).value()["output"], "did b\n");
}

TEST_F(ControlTest, PowerButtonAndEnd) {
  EXPECT_TRUE(client().ask({{"command", "powerdown"}}, patience).ok());
  EXPECT_TRUE(client().ask({{"command", "kill"}}, patience).ok());
  EXPECT_EQ(target.presses, 1);
  EXPECT_EQ(target.ends, 1);
}

TEST_F(ControlTest, UnknownCommandsAreAnswered) {
  const auto reply = client().ask({{"command", "fly"}}, patience);
  ASSERT_FALSE(reply.ok());
  EXPECT_THAT(reply.error().message(), HasSubstr("unknown command \"fly\" (known: attach"));
}

TEST_F(ControlTest, GarbageIsAnswered) {
  EXPECT_THAT(raw("garbage\n"), HasSubstr("not a JSON object"));
  EXPECT_THAT(raw("[1]\n"), HasSubstr("not a JSON object"));
  EXPECT_THAT(raw("{\"command\": 7}\n"), HasSubstr("unknown command"));
  EXPECT_THAT(raw("{\"command\": \"\xff\"}\n"), HasSubstr("\"ok\":false"));
}

TEST_F(ControlTest, ARequestWithoutEndIsRefused) {
  EXPECT_THAT(raw(std::string(ControlServer::longest_request_bytes + 1, 'x')), HasSubstr("too long"));
}

TEST_F(ControlTest, AFileIsPassed) {
  char path[] = "/tmp/veneer-save-XXXXXX";
  Fd file(::mkstemp(path));
  EXPECT_TRUE(client().ask({{"command", "save"}}, patience, file.get()).ok());
  char text[6] = {};
  EXPECT_EQ(::pread(file.get(), text, 5, 0), 5);
  EXPECT_STREQ(text, "state");
  ::unlink(path);
}

TEST_F(ControlTest, SaveWithoutAFileIsRefused) { EXPECT_FALSE(client().ask({{"command", "save"}}, patience).ok()); }

TEST_F(ControlTest, AttachGivesTheConsole) {
  const std::uint8_t early[] = {'a'};
  hub.write(early);
  ControlClient one = client();
  ASSERT_TRUE(one.ask({{"command", "attach"}}, patience).ok());
  const std::uint8_t late[] = {'b'};
  hub.write(late);
  std::string seen = one.take_rest();
  const Fd socket = one.take_socket();
  while (seen.size() < 2) {
    char c = 0;
    ASSERT_EQ(::recv(socket.get(), &c, 1, 0), 1);
    seen += c;
  }
  EXPECT_EQ(seen, "ab");
}

TEST_F(ControlTest, TypedBytesReachTheMachine) {
  ControlClient one = client();
  ASSERT_TRUE(one.ask({{"command", "attach"}}, patience).ok());
  const Fd socket = one.take_socket();
  ASSERT_EQ(::send(socket.get(), "ls\n", 3, 0), 3);
  EXPECT_TRUE(eventually([&] { return target.typed_so_far() == "ls\n"; }));
}

TEST_F(ControlTest, TypedBytesWaitForRoom) {
  target.room = 1;
  ControlClient one = client();
  ASSERT_TRUE(one.ask({{"command", "attach"}}, patience).ok());
  const Fd socket = one.take_socket();
  ASSERT_EQ(::send(socket.get(), "ls\n", 3, 0), 3);
  ASSERT_TRUE(eventually([&] { return target.typed_so_far() == "l"; }));
  {
    const std::lock_guard lock(target.mutex);
    target.room = 100;
  }
  server->wake();
  EXPECT_TRUE(eventually([&] { return target.typed_so_far() == "ls\n"; }));
}

TEST_F(ControlTest, AClientThatGoesIsForgotten) {
  for (int i = 0; i < 100; ++i) {
    ControlClient one = client();
    ASSERT_TRUE(one.ask({{"command", "attach"}}, patience).ok());
  }
  EXPECT_TRUE(client().ask({{"command", "status"}}, patience).ok());
}

TEST_F(ControlTest, TooManyClientsWaitTheirTurn) {
  std::vector<ControlClient> many;
  for (std::size_t i = 0; i < ControlServer::max_clients; ++i) {
    many.push_back(client());
    ASSERT_TRUE(many.back().ask({{"command", "status"}}, patience).ok());
  }
  ControlClient late = client();
  EXPECT_FALSE(late.ask({{"command", "status"}}, std::chrono::milliseconds(200)).ok());
  many.clear();
  EXPECT_TRUE(client().ask({{"command", "status"}}, patience).ok());
}

TEST(ControlListen, ALongPathIsRefusedWithAdvice) {
  const auto made = ControlServer::listen("/tmp/" + std::string(200, 'x'));
  ASSERT_FALSE(made.ok());
  EXPECT_THAT(made.error().message(), HasSubstr("XDG_RUNTIME_DIR"));
}

}  // namespace
}  // namespace veneer::host
