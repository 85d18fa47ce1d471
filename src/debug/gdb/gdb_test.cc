// The gdb stub: packets, registers, and conversations with a fake machine.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "base/fd.h"
#include "debug/gdb/packet.h"
#include "debug/gdb/registers.h"
#include "debug/gdb/server.h"
#include "debug/gdb/session.h"

namespace veneer::debug::gdb {
namespace {

using Kind = PacketReader::Kind;

// ---- Packets ----------------------------------------------------------------------------------------------------
TEST(GdbPacket, Frame) { EXPECT_EQ(frame("OK"), "$OK#9a"); }
TEST(GdbPacket, FrameEscapes) { EXPECT_EQ(frame("a#b").substr(0, 5), std::string("$a}\x03") + "b"); }
TEST(GdbPacket, ReadsAPacket) {
  PacketReader reader;
  std::string_view input = "+$g#67+";
  EXPECT_EQ(reader.next(input), Kind::Packet);
  EXPECT_EQ(reader.text(), "g");
  EXPECT_EQ(reader.next(input), Kind::None);
}
TEST(GdbPacket, ReadsAPacketInPieces) {
  PacketReader reader;
  std::string_view first = "$m10";
  std::string_view second = "00,4#8e";
  EXPECT_EQ(reader.next(first), Kind::None);
  EXPECT_EQ(reader.next(second), Kind::Packet);
  EXPECT_EQ(reader.text(), "m1000,4");
}
TEST(GdbPacket, WrongChecksum) {
  PacketReader reader;
  std::string_view input = "$g#00";
  EXPECT_EQ(reader.next(input), Kind::Damaged);
}
TEST(GdbPacket, InterruptBetweenPackets) {
  PacketReader reader;
  std::string_view input = "\x03$g#67";
  EXPECT_EQ(reader.next(input), Kind::Interrupt);
  EXPECT_EQ(reader.next(input), Kind::Packet);
}
TEST(GdbPacket, UndoesEscapes) {
  PacketReader reader;
  const std::string framed = frame("X#$}*");
  std::string_view input = framed;
  EXPECT_EQ(reader.next(input), Kind::Packet);
  EXPECT_EQ(reader.text(), "X#$}*");
}
TEST(GdbPacket, OverlongPacketIsThrownAway) {
  PacketReader reader;
  const std::string framed = frame(std::string(packet_bytes + 1, 'a'));
  std::string_view input = framed;
  EXPECT_EQ(reader.next(input), Kind::Packet);
  EXPECT_EQ(reader.text(), "");
}
TEST(GdbPacket, HexRefusesOddLength) { EXPECT_FALSE(from_hex("abc").has_value()); }
TEST(GdbPacket, HexRefusesOtherLetters) { EXPECT_FALSE(from_hex("zz").has_value()); }

// ---- Registers --------------------------------------------------------------------------------------------------
const Register& named(const std::string& name) {
  for (const Register& reg : register_table())
    if (reg.name == name) return reg;
  ADD_FAILURE() << name;
  return register_table().front();
}
TEST(GdbRegisters, OrderBeginsAsGdbWantsIt) {
  EXPECT_EQ(register_table()[1].name, "rbx");
  EXPECT_EQ(register_table()[16].name, "rip");
  EXPECT_EQ(register_table()[24].name, "st0");
  EXPECT_EQ(register_table()[40].name, "xmm0");
}
TEST(GdbRegisters, DescriptionNamesEveryRegister) {
  for (const Register& reg : register_table())
    EXPECT_NE(target_xml().find("name=\"" + reg.name + "\""), std::string::npos) << reg.name;
}
TEST(GdbRegisters, GeneralRegister) {
  cpu::ArchState state;
  state.gpr[cpu::RBX] = 0x1122334455667788;
  EXPECT_EQ(to_hex(read_register(state, named("rbx"))), "8877665544332211");
}
TEST(GdbRegisters, WriteVectorRegisterMarksItsComponent) {
  cpu::ArchState state;
  std::array<std::uint8_t, 16> value{};
  value[3] = 7;
  write_register(state, named("xmm2"), value.data());
  EXPECT_EQ(state.xsave[160 + 32 + 3], 7);
  EXPECT_EQ(state.xsave[512] & 2, 2);
}
TEST(GdbRegisters, ComponentInItsInitialStateReadsAsSuch) {
  cpu::ArchState state;
  state.xsave.fill(0xff);
  std::memset(state.xsave.data() + 512, 0, 8);
  EXPECT_EQ(to_hex(read_register(state, named("fctrl"))), "7f030000");
  EXPECT_EQ(to_hex(read_register(state, named("ftag"))), "ffff0000");
  EXPECT_EQ(to_hex(read_register(state, named("ymm0h"))), std::string(32, '0'));
}
TEST(GdbRegisters, TagWordFollowsTheStackTop) {
  cpu::ArchState state;
  state.xsave[512] = 1;
  state.xsave[3] = 0x38;  // FSW: TOP = 7
  state.xsave[4] = 0x80;  // physical register 7 is in use: ST(0)
  state.xsave[32 + 7] = 0x80;
  state.xsave[32 + 8] = 0xff;
  state.xsave[32 + 9] = 0x3f;  // 1.0
  EXPECT_EQ(to_hex(read_register(state, named("ftag"))), "ff3f0000");
}
TEST(GdbRegisters, FlagsKeepTheirFixedBit) {
  cpu::ArchState state;
  const std::array<std::uint8_t, 4> zero{};
  write_register(state, named("eflags"), zero.data());
  EXPECT_EQ(state.rflags, cpu::RFLAGS_FIXED1);
}

// ---- Sessions ---------------------------------------------------------------------------------------------------
class FakeTarget final : public Target {
 public:
  FakeTarget() {
    for (std::size_t i = 0; i < memory.size(); ++i) memory[i] = static_cast<std::uint8_t>(i);
    states[0].rip = 0x1000;
    states[1].rip = 0x2000;
  }
  unsigned vcpu_count() const override { return 2; }
  bool stop() override {
    did += "stop ";
    return true;
  }
  void resume() override { did += "resume "; }
  void step(unsigned vcpu) override { did += "step" + std::to_string(vcpu) + " "; }
  void kill() override { did += "kill "; }
  void get_state(unsigned vcpu, cpu::ArchState& state) override { state = states[vcpu]; }
  void set_state(unsigned vcpu, const cpu::ArchState& state) override { states[vcpu] = state; }
  std::size_t read_memory(unsigned, std::uint64_t address, std::span<std::uint8_t> out) override {
    std::size_t n = 0;
    for (; n < out.size() && address + n < memory.size(); ++n) out[n] = memory[address + n];
    return n;
  }
  std::size_t write_memory(unsigned, std::uint64_t address, std::span<const std::uint8_t> data) override {
    std::size_t n = 0;
    for (; n < data.size() && address + n < memory.size(); ++n) memory[address + n] = data[n];
    return n;
  }
  void set_breakpoint(std::uint64_t address, bool enabled) override {
    did += (enabled ? "set" : "clear") + std::to_string(address) + " ";
  }
  std::string monitor(std::string_view line) override { return "did " + std::string(line); }

  std::array<cpu::ArchState, 2> states{};
  std::array<std::uint8_t, 256> memory{};
  std::string did;
};

struct GdbSession : testing::Test {
  GdbSession() { target.did.clear(); }
  std::string ask(std::string_view packet) { return session.handle(packet).value_or("(later)"); }
  FakeTarget target;
  Session session{target};
};

TEST_F(GdbSession, StopsTheMachineAtTheStart) {
  FakeTarget fresh;
  const Session other(fresh);
  EXPECT_EQ(fresh.did, "stop ");
}
TEST_F(GdbSession, StopReason) { EXPECT_EQ(ask("?"), "T05thread:1;"); }
TEST_F(GdbSession, SupportedNamesTheDescription) {
  EXPECT_NE(ask("qSupported:swbreak+").find("qXfer:features:read+"), std::string::npos);
}
TEST_F(GdbSession, DescriptionInParts) {
  const std::string first = ask("qXfer:features:read:target.xml:0,40");
  EXPECT_EQ(first, std::string("m").append(target_xml(), 0, 64));
  EXPECT_EQ(ask("qXfer:features:read:target.xml:100000,40"), "l");
}
TEST_F(GdbSession, ReadsOneRegister) { EXPECT_EQ(ask("p10"), "0010000000000000"); }
TEST_F(GdbSession, WritesOneRegister) {
  EXPECT_EQ(ask("P10=efbeadde00000000"), "OK");
  EXPECT_EQ(target.states[0].rip, 0xdeadbeefu);
}
TEST_F(GdbSession, RegisterThatIsNotThere) { EXPECT_EQ(ask("pffff"), "E16"); }
TEST_F(GdbSession, AllRegistersThereAndBack) {
  target.states[0].gpr[cpu::R15] = 0x77;
  const std::string all = ask("g");
  target.states[0].gpr[cpu::R15] = 0;
  EXPECT_EQ(ask("G" + all), "OK");
  EXPECT_EQ(target.states[0].gpr[cpu::R15], 0x77u);
}
TEST_F(GdbSession, RegistersOfTheOtherCpu) {
  EXPECT_EQ(ask("Hg2"), "OK");
  EXPECT_EQ(ask("p10"), "0020000000000000");
}
TEST_F(GdbSession, ThreadThatIsNotThere) { EXPECT_EQ(ask("Hg3"), "E16"); }
TEST_F(GdbSession, ThreadList) { EXPECT_EQ(ask("qfThreadInfo"), "m1,2"); }
TEST_F(GdbSession, ReadsMemory) { EXPECT_EQ(ask("m10,4"), "10111213"); }
TEST_F(GdbSession, MemoryThatEndsIsReadUpToItsEnd) { EXPECT_EQ(ask("mfe,4"), "feff"); }
TEST_F(GdbSession, MemoryThatIsNotThere) { EXPECT_EQ(ask("m1000,4"), "E0e"); }
TEST_F(GdbSession, HugeReadIsCut) { EXPECT_EQ(ask("m0,ffffffffffffffff").size(), 512u); }
TEST_F(GdbSession, WritesMemory) {
  EXPECT_EQ(ask("M20,2:abcd"), "OK");
  EXPECT_EQ(target.memory[0x21], 0xcd);
}
TEST_F(GdbSession, WriteWithWrongLength) { EXPECT_EQ(ask("M20,3:abcd"), "E16"); }
TEST_F(GdbSession, WritesBinary) {
  EXPECT_EQ(ask("X20,2:hi"), "OK");
  EXPECT_EQ(target.memory[0x20], 'h');
}
TEST_F(GdbSession, ContinueAnswersWhenACpuStops) {
  EXPECT_EQ(ask("vCont;c"), "(later)");
  EXPECT_EQ(target.did, "resume ");
  EXPECT_EQ(session.stopped(1), "T05thread:2;");
}
TEST_F(GdbSession, BreakpointIsNamedInTheStop) {
  EXPECT_EQ(ask("Z0,2000,1"), "OK");
  ask("c");
  EXPECT_EQ(session.stopped(1), "T05thread:2;swbreak:;");
}
TEST_F(GdbSession, ContinueFromABreakpointStepsOffItFirst) {
  ask("Z1,1000,1");
  target.did.clear();
  EXPECT_EQ(ask("c"), "(later)");
  EXPECT_EQ(target.did, "step0 ");
  EXPECT_FALSE(session.stopped(0).has_value());
  EXPECT_EQ(target.did, "step0 resume ");
}
TEST_F(GdbSession, StepOfOneCpu) {
  EXPECT_EQ(ask("vCont;s:2;c"), "(later)");
  EXPECT_EQ(target.did, "step1 ");
  EXPECT_EQ(session.stopped(1), "T05thread:2;");
}
TEST_F(GdbSession, ContinueAtAnAddress) {
  ask("c4000");
  EXPECT_EQ(target.states[0].rip, 0x4000u);
}
TEST_F(GdbSession, InterruptWhileRunning) {
  ask("c");
  EXPECT_EQ(session.interrupt(), "T02thread:1;");
}
TEST_F(GdbSession, InterruptWhileStandingIsIgnored) { EXPECT_FALSE(session.interrupt().has_value()); }
TEST_F(GdbSession, StaleStopIsIgnored) { EXPECT_FALSE(session.stopped(0).has_value()); }
TEST_F(GdbSession, NoRegistersWhileRunning) {
  ask("c");
  EXPECT_EQ(ask("g"), "E01");
}
TEST_F(GdbSession, WatchpointsAreNotSupported) { EXPECT_EQ(ask("Z2,1000,8"), ""); }
TEST_F(GdbSession, DetachTakesBreakpointsOut) {
  ask("Z0,1000,1");
  target.did.clear();
  EXPECT_EQ(ask("D"), "OK");
  EXPECT_EQ(target.did, "clear4096 resume ");
  EXPECT_TRUE(session.over());
}
TEST_F(GdbSession, Kill) {
  EXPECT_EQ(ask("k"), "(later)");
  EXPECT_EQ(target.did, "kill ");
}
TEST_F(GdbSession, MonitorCommand) {
  EXPECT_EQ(ask("qRcmd," + to_hex(std::string_view("info"))), to_hex(std::string_view("did info")));
}
TEST_F(GdbSession, UnknownPacketsGetTheEmptyReply) { EXPECT_EQ(ask("!"), ""); }
TEST_F(GdbSession, DamagedArgumentsAreErrors) {
  EXPECT_EQ(ask("m"), "E16");
  EXPECT_EQ(ask("Mzz"), "E16");
  EXPECT_EQ(ask("P"), "E16");
  EXPECT_EQ(ask("vCont;x"), "E16");
  EXPECT_EQ(ask("Z0"), "E16");
}

// ---- Sockets ----------------------------------------------------------------------------------------------------
class Client {
 public:
  explicit Client(std::uint16_t port) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  void send(std::string_view text) {
    EXPECT_EQ(::send(fd_.get(), text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  }
  /// Reads until `count` bytes have come.
  std::string receive(std::size_t count) {
    std::string text;
    while (text.size() < count) {
      char byte = 0;
      if (::recv(fd_.get(), &byte, 1, 0) != 1) break;
      text += byte;
    }
    return text;
  }

 private:
  Fd fd_;
};

TEST(GdbServer, AnswersAPacketAndReportsTheEnd) {
  FakeTarget target;
  auto server = Server::listen(target, "127.0.0.1", 0);
  ASSERT_TRUE(server.ok()) << server.error().message();
  server.value()->start();
  Client client(server.value()->port());
  client.send("$qC#b4");
  EXPECT_EQ(client.receive(1), "+");
  EXPECT_EQ(client.receive(7), frame("QC1"));
  server.value()->set_exit_status(3);
  server.value().reset();
  EXPECT_EQ(client.receive(7), frame("W03"));
}
TEST(GdbServer, ReportsABreakpoint) {
  FakeTarget target;
  auto server = Server::listen(target, "127.0.0.1", 0);
  ASSERT_TRUE(server.ok()) << server.error().message();
  server.value()->start();
  Client client(server.value()->port());
  client.send("$c#63$");
  EXPECT_EQ(client.receive(1), "+");
  server.value()->vcpu_stopped(1);
  EXPECT_EQ(client.receive(frame("T05thread:2;").size()), frame("T05thread:2;"));
}
TEST(GdbServer, RefusesHostNames) {
  FakeTarget target;
  EXPECT_FALSE(Server::listen(target, "localhost", 0).ok());
}

}  // namespace
}  // namespace veneer::debug::gdb
