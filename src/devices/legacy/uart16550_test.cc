// The 16550A: FIFO, interrupt sources and their order, loopback, what Linux's probe looks for.
#include "devices/legacy/uart16550.h"

#include <gtest/gtest.h>

#include "devices/testing/fakes.h"

namespace veneer::devices {
namespace {

using testing::in8;
using testing::out8;

enum : std::uint64_t { DATA = 0, IER = 1, IIR = 2, FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };
constexpr std::uint8_t ERBFI = 1, ETBEI = 2, ELSI = 4, EDSSI = 8;
constexpr std::uint8_t OUT2 = 8, LOOP = 0x10;

class Uart16550Test : public ::testing::Test {
 protected:
  Uart16550Test() { out8(uart, MCR, OUT2); }
  void type(std::string_view text) {
    uart.receive(std::span(reinterpret_cast<const std::uint8_t*>(text.data()), text.size()));
  }
  testing::FakeIrqLine irq;
  testing::FakeCharSink sink;
  Uart16550 uart{irq, sink};
};

TEST_F(Uart16550Test, WrittenByteGoesOut) {
  out8(uart, DATA, 'x');
  EXPECT_EQ(sink.text, "x");
}

TEST_F(Uart16550Test, TransmitterIsAlwaysReady) { EXPECT_EQ(in8(uart, LSR), 0x60); }

TEST_F(Uart16550Test, ReceivedByteCanBeRead) {
  type("a");
  EXPECT_EQ(in8(uart, LSR), 0x61);
  EXPECT_EQ(in8(uart, DATA), 'a');
  EXPECT_EQ(in8(uart, LSR), 0x60);
}

TEST_F(Uart16550Test, FifoKeepsOrder) {
  out8(uart, FCR, 1);
  type("abc");
  EXPECT_EQ(in8(uart, DATA), 'a');
  EXPECT_EQ(in8(uart, DATA), 'b');
  EXPECT_EQ(in8(uart, DATA), 'c');
}

TEST_F(Uart16550Test, RoomIsOneByteWithoutFifo) {
  EXPECT_EQ(uart.receive_room(), 1u);
  type("a");
  EXPECT_EQ(uart.receive_room(), 0u);
}

TEST_F(Uart16550Test, RoomIsSixteenBytesWithFifo) {
  out8(uart, FCR, 1);
  EXPECT_EQ(uart.receive_room(), 16u);
}

TEST_F(Uart16550Test, RoomCallbackComesWhenAFullReceiverIsRead) {
  unsigned calls = 0;
  uart.set_room_callback([&] { ++calls; });
  type("a");
  in8(uart, DATA);
  EXPECT_EQ(calls, 1u);
}

TEST_F(Uart16550Test, RoomCallbackComesWhenTheFifoIsCleared) {
  out8(uart, FCR, 1);
  unsigned calls = 0;
  uart.set_room_callback([&] { ++calls; });
  type("0123456789abcdef");
  out8(uart, FCR, 3);
  EXPECT_EQ(calls, 1u);
}

TEST_F(Uart16550Test, RoomCallbackComesWhenAFullReceiverIsReset) {
  unsigned calls = 0;
  type("a");
  uart.set_room_callback([&] { ++calls; });
  uart.reset();
  EXPECT_EQ(calls, 1u);
  uart.reset();
  EXPECT_EQ(calls, 1u);
}

TEST_F(Uart16550Test, RoomCallbackMayReceiveAtOnce) {
  uart.set_room_callback([&] { type("b"); });
  type("a");
  EXPECT_EQ(in8(uart, DATA), 'a');
  EXPECT_EQ(in8(uart, LSR) & 1, 1);
}

TEST_F(Uart16550Test, OverrunIsReportedOnce) {
  out8(uart, FCR, 1);
  type("0123456789abcdefX");
  EXPECT_EQ(in8(uart, LSR) & 2, 2);
  EXPECT_EQ(in8(uart, LSR) & 2, 0);
}

TEST_F(Uart16550Test, OverrunWithFifoKeepsTheOldBytes) {
  out8(uart, FCR, 1);
  type("0123456789abcdefX");
  EXPECT_EQ(in8(uart, DATA), '0');
}

TEST_F(Uart16550Test, ReceiveInterrupt) {
  out8(uart, IER, ERBFI);
  type("a");
  EXPECT_TRUE(irq.level);
  EXPECT_EQ(in8(uart, IIR), 0x04);
}

TEST_F(Uart16550Test, ReadingTheByteEndsTheReceiveInterrupt) {
  out8(uart, IER, ERBFI);
  type("a");
  in8(uart, DATA);
  EXPECT_FALSE(irq.level);
}

TEST_F(Uart16550Test, BelowTheTriggerLevelItIsATimeout) {
  out8(uart, FCR, 0xc1);
  out8(uart, IER, ERBFI);
  type("a");
  EXPECT_EQ(in8(uart, IIR), 0xcc);
}

TEST_F(Uart16550Test, AtTheTriggerLevelItIsData) {
  out8(uart, FCR, 0x41);
  out8(uart, IER, ERBFI);
  type("abcd");
  EXPECT_EQ(in8(uart, IIR), 0xc4);
}

TEST_F(Uart16550Test, EnablingTheTransmitInterruptRaisesIt) {
  out8(uart, IER, ETBEI);
  EXPECT_TRUE(irq.level);
  EXPECT_EQ(in8(uart, IIR), 0x02);
}

TEST_F(Uart16550Test, ReadingIirEndsTheTransmitInterrupt) {
  out8(uart, IER, ETBEI);
  in8(uart, IIR);
  EXPECT_FALSE(irq.level);
  EXPECT_EQ(in8(uart, IIR), 0x01);
}

TEST_F(Uart16550Test, WritingAByteRaisesTheTransmitInterruptAgain) {
  out8(uart, IER, ETBEI);
  in8(uart, IIR);
  out8(uart, DATA, 'x');
  EXPECT_TRUE(irq.level);
}

TEST_F(Uart16550Test, LineStatusComesFirst) {
  out8(uart, IER, ERBFI | ELSI);
  type("ab");
  EXPECT_EQ(in8(uart, IIR), 0x06);
}

TEST_F(Uart16550Test, ReadingIirForDataLeavesTheTransmitInterruptWaiting) {
  out8(uart, IER, ERBFI | ETBEI);
  type("a");
  EXPECT_EQ(in8(uart, IIR), 0x04);
  in8(uart, DATA);
  EXPECT_EQ(in8(uart, IIR), 0x02);
}

TEST_F(Uart16550Test, Out2GatesTheInterrupt) {
  out8(uart, MCR, 0);
  out8(uart, IER, ETBEI);
  EXPECT_FALSE(irq.level);
}

TEST_F(Uart16550Test, FifoShowsInIir) {
  out8(uart, FCR, 1);
  EXPECT_EQ(in8(uart, IIR), 0xc1);
}

TEST_F(Uart16550Test, SixtyFourByteFifoIsNotClaimed) {
  out8(uart, LCR, 0x80);
  out8(uart, FCR, 0x21);
  EXPECT_EQ(in8(uart, IIR) & 0x20, 0);
}

TEST_F(Uart16550Test, SwitchingTheFifoOffClearsIt) {
  out8(uart, FCR, 1);
  type("abc");
  out8(uart, FCR, 0);
  EXPECT_EQ(in8(uart, LSR) & 1, 0);
}

TEST_F(Uart16550Test, DivisorLatchHidesData) {
  out8(uart, LCR, 0x80);
  out8(uart, DATA, 0x0c);
  out8(uart, IER, 0x01);
  EXPECT_EQ(in8(uart, DATA), 0x0c);
  EXPECT_EQ(in8(uart, IER), 0x01);
  EXPECT_EQ(sink.text, "");
}

TEST_F(Uart16550Test, IerHasFourBits) {
  out8(uart, IER, 0xff);
  EXPECT_EQ(in8(uart, IER), 0x0f);
}

TEST_F(Uart16550Test, ScratchRegisterKeepsItsValue) {
  out8(uart, SCR, 0xa5);
  EXPECT_EQ(in8(uart, SCR), 0xa5);
}

TEST_F(Uart16550Test, SomeoneIsConnected) { EXPECT_EQ(in8(uart, MSR) & 0xf0, 0xb0); }

TEST_F(Uart16550Test, LoopbackReturnsOutputsAsInputs) {
  out8(uart, MCR, LOOP | 0x0a);
  EXPECT_EQ(in8(uart, MSR) & 0xf0, 0x90);
}

TEST_F(Uart16550Test, LoopbackReturnsBytes) {
  out8(uart, MCR, LOOP);
  out8(uart, DATA, 'q');
  EXPECT_EQ(in8(uart, DATA), 'q');
  EXPECT_EQ(sink.text, "");
}

TEST_F(Uart16550Test, LoopbackKeepsTheWireOut) {
  out8(uart, MCR, LOOP);
  type("x");
  EXPECT_EQ(in8(uart, LSR) & 1, 0);
  EXPECT_EQ(uart.receive_room(), 0u);
}

TEST_F(Uart16550Test, LeavingLoopbackAsksForWhatWaits) {
  unsigned calls = 0;
  out8(uart, MCR, LOOP);
  uart.set_room_callback([&] { ++calls; });
  out8(uart, MCR, OUT2);
  EXPECT_EQ(calls, 1u);
}

TEST_F(Uart16550Test, ModemChangesInterruptUntilRead) {
  out8(uart, IER, EDSSI);
  out8(uart, MCR, LOOP);
  out8(uart, MCR, OUT2);
  EXPECT_TRUE(irq.level);
  in8(uart, MSR);
  EXPECT_FALSE(irq.level);
}

}  // namespace
}  // namespace veneer::devices
