// Frames over a stream socket, in pieces, in bunches, and nonsense.
#include "net/stream.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/test_packets.h"

namespace veneer::net {
namespace {

class StreamTest : public ::testing::Test {
 protected:
  StreamTest() {
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    peer = Fd(ends[1]);
    end = make_stream_end(Fd(ends[0]), "test").value();
  }
  std::vector<std::size_t> round() {
    std::vector<std::size_t> sizes;
    std::vector<pollfd> watched;
    int timeout = 0;
    end->prepare(watched, timeout);
    watching = watched.size();
    ::poll(watched.data(), watched.size(), 0);
    end->handle(watched, [&sizes](std::span<const std::byte> bytes, const Offload&) { sizes.push_back(bytes.size()); });
    return sizes;
  }
  void put(std::initializer_list<unsigned> bytes) {
    for (const unsigned byte : bytes) {
      const auto value = static_cast<std::uint8_t>(byte);
      ASSERT_EQ(::write(peer.get(), &value, 1), 1);
    }
  }
  void put_zeros(std::size_t count) {
    const std::vector<std::byte> zeros(count);
    ASSERT_EQ(::write(peer.get(), zeros.data(), count), static_cast<ssize_t>(count));
  }
  std::vector<std::byte> take() {
    std::vector<std::byte> bytes(1 << 20);
    const ssize_t got = ::recv(peer.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
    bytes.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
    return bytes;
  }
  Fd peer;
  std::unique_ptr<HostEnd> end;
  std::size_t watching = 0;
};

TEST_F(StreamTest, ALengthStandsBeforeEachFrame) {
  Frame frame = testing::as_frame(testing::make_packet({.payload_bytes = 100}));
  const std::size_t size = frame.size();
  end->send(frame);
  const auto got = take();
  ASSERT_EQ(got.size(), size + 4);
  EXPECT_EQ(load_be32(got, 0), size);
}
TEST_F(StreamTest, SeveralFramesComeInOneRound) {
  put({0, 0, 0, 20});
  put_zeros(20);
  put({0, 0, 0, 30});
  put_zeros(30);
  EXPECT_EQ(round(), (std::vector<std::size_t>{20, 30}));
}
TEST_F(StreamTest, AFrameInPiecesIsPutTogether) {
  put({0, 0});
  EXPECT_TRUE(round().empty());
  put({0, 20});
  put_zeros(19);
  EXPECT_TRUE(round().empty());
  put_zeros(1);
  EXPECT_EQ(round(), std::vector<std::size_t>{20});
}
TEST_F(StreamTest, NonsenseEndsTheConnection) {
  put({0xff, 0, 0, 0});
  EXPECT_TRUE(round().empty());
  round();
  EXPECT_EQ(watching, 0u);
}
TEST_F(StreamTest, AClosedConnectionIsSurvived) {
  peer.reset();
  Frame frame = testing::as_frame(testing::make_packet({}));
  end->send(frame);
  EXPECT_TRUE(round().empty());
  end->send(frame);
  round();
  EXPECT_EQ(watching, 0u);
}
TEST_F(StreamTest, WhatDoesNotGoAtOnceGoesLaterAndWhole) {
  const auto packet = testing::make_packet({.payload_bytes = 1000});
  for (int i = 0; i < 600; ++i) {
    Frame frame = testing::as_frame(packet);
    end->send(frame);
  }
  std::vector<std::byte> all;
  for (int i = 0; i < 100; ++i) {
    const auto got = take();
    all.insert(all.end(), got.begin(), got.end());
    round();
  }
  ASSERT_EQ(all.size(), 600 * (packet.size() + 4));
  EXPECT_EQ(load_be32(all, 599 * (packet.size() + 4)), packet.size());
}

}  // namespace
}  // namespace veneer::net
