// The unix:PATH serial backend, with a client.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <string>

#include "base/fd.h"
#include "cli/serial_backend.h"

namespace veneer::cli {
namespace {

constexpr std::chrono::milliseconds patience{1000};

class NoMonitor final : public MonitorTarget {
 public:
  unsigned vcpu_count() const override { return 1; }
  std::string registers(unsigned) override { return {}; }
  std::string tlb(unsigned) override { return {}; }
  std::string jit(unsigned) override { return {}; }
  std::string events(unsigned) override { return {}; }
  std::string status() override { return {}; }
  std::string disks() override { return "vda\n"; }
  std::string network() override { return "net0\n"; }
  std::string balloon() override { return {}; }
  std::string set_guest_memory(std::uint64_t) override { return {}; }
  std::string set_link(std::string card, bool up) override { return card + (up ? " in\n" : " out\n"); }
  std::string grow_disk(std::string, std::uint64_t) override { return {}; }
  std::string refresh_disk(std::string) override { return {}; }
  std::string screen() override { return {}; }
  std::string press_keys(std::vector<devices::KeyEvent>) override { return {}; }
  std::string move_mouse(int, int, int) override { return {}; }
  std::string set_mouse_buttons(std::uint8_t) override { return {}; }
  void pause() override {}
  void resume() override {}
  void reset() override {}
  void power_button() override {}
  void quit() override {}
};

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size());
  return address;
}

struct UnixSerialTest : testing::Test {
  UnixSerialTest() : path(testing::TempDir() + "veneer-serial-" + std::to_string(getpid())) {}
  std::unique_ptr<SerialBackend> open() {
    auto opened = open_unix_serial(path);
    EXPECT_TRUE(opened.ok()) << (opened.ok() ? "" : opened.error().message());
    return opened.ok() ? std::move(opened).value() : nullptr;
  }
  Fd connect() const {
    Fd fd(socket(AF_UNIX, SOCK_STREAM, 0));
    const sockaddr_un address = address_of(path);
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
    return fd;
  }
  static void write(SerialBackend& serial, std::string_view text) {
    serial.sink().write({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
  }
  static std::string read(const Fd& fd, std::size_t count) {
    std::string text(count, 0);
    std::size_t got = 0;
    while (got < count) {
      const ssize_t n = ::read(fd.get(), text.data() + got, count - got);
      if (n <= 0) break;
      got += static_cast<std::size_t>(n);
    }
    text.resize(got);
    return text;
  }
  std::string path;
  GuestInput input;
  NoMonitor monitor;
};

TEST_F(UnixSerialTest, OutputFromBeforeTheClientIsKept) {
  const auto serial = open();
  serial->start(input, monitor);
  write(*serial, "early ");
  const Fd client = connect();
  write(*serial, "late");
  EXPECT_EQ(read(client, 10), "early late");
  serial->finish(patience);
}
TEST_F(UnixSerialTest, OnlyTheNewestOutputIsKeptWithoutAClient) {
  const auto serial = open();
  serial->start(input, monitor);
  write(*serial, std::string(100 * 1024, 'o'));
  write(*serial, "end");
  const Fd client = connect();
  const std::string kept = read(client, 64 * 1024);
  EXPECT_EQ(kept.size(), 64u * 1024);
  EXPECT_EQ(kept.substr(kept.size() - 4), "oend");
  serial->finish(patience);
}
TEST_F(UnixSerialTest, InputReachesTheGuest) {
  const auto serial = open();
  serial->start(input, monitor);
  const Fd client = connect();
  EXPECT_EQ(::write(client.get(), "hi", 2), 2);
  std::string received;
  for (int i = 0; i < 500 && received.size() < 2; ++i) {
    input.deliver(16, [&](std::span<const std::uint8_t> bytes) { received.append(bytes.begin(), bytes.end()); });
    usleep(10'000);
  }
  EXPECT_EQ(received, "hi");
  serial->finish(patience);
}
TEST_F(UnixSerialTest, SocketOfADeadProcessIsReplaced) {
  {
    const Fd dead(socket(AF_UNIX, SOCK_STREAM, 0));
    const sockaddr_un address = address_of(path);
    ASSERT_EQ(bind(dead.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  }
  EXPECT_NE(open(), nullptr);
}
TEST_F(UnixSerialTest, SocketInUseIsRefused) {
  const auto serial = open();
  EXPECT_FALSE(open_unix_serial(path).ok());
}
TEST_F(UnixSerialTest, SocketFileGoesWithTheBackend) {
  open().reset();
  EXPECT_NE(access(path.c_str(), F_OK), 0);
}

}  // namespace
}  // namespace veneer::cli
