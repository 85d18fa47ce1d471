// The flight recorder, its text and the hang detector.
#include <gtest/gtest.h>

#include <csignal>

#include "base/assert.h"
#include "base/flight_recorder.h"
#include "debug/flight_dump.h"
#include "debug/hang_watchdog.h"

namespace veneer::debug {
namespace {

using flight::Event;

// Each test has a ring of its own: rings live as long as the process.
TEST(FlightRecorder, ShowsEventsOldestFirst) {
  flight::record(flight::ring(10), Event::Fault, 0x1234, 0xdead000, 14);
  flight::record(flight::ring(10), Event::PortWrite, 0x1238, 0x41, 0x3f8);
  const std::string text = describe_flight_recorder(10, 8);
  EXPECT_NE(text.find("vcpu10: last 2 of 2 events"), std::string::npos) << text;
  EXPECT_LT(text.find("fault"), text.find("port-write")) << text;
  EXPECT_NE(text.find("dead000"), std::string::npos) << text;
}
TEST(FlightRecorder, KeepsTheNewestWhenTheRingIsFull) {
  for (unsigned i = 0; i < flight::Ring::slots + 5; ++i) flight::record(flight::ring(11), Event::Note, i);
  const std::string text = describe_flight_recorder(11, 1);
  EXPECT_NE(text.find("last 1 of 1029 events"), std::string::npos) << text;
  EXPECT_NE(text.find("rip 404"), std::string::npos) << text;
}
TEST(FlightRecorder, NothingRecordedNothingShown) { EXPECT_EQ(describe_flight_recorder(12, 8), ""); }
TEST(FlightRecorder, CpuOutOfRange) { EXPECT_EQ(describe_flight_recorder(100000, 8), ""); }

void crash_with_handler_of_an_engine() {
  static struct sigaction previous;
  install_crash_handler(nullptr);
  struct sigaction action {};
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  action.sa_sigaction = [](int number, siginfo_t* info, void* context) {
    previous.sa_sigaction(number, info, context);
  };
  sigaction(SIGSEGV, &action, &previous);
  flight::record(flight::ring(13), Event::HostFault, 0x77);
  raise(SIGSEGV);
}
TEST(FlightRecorderDeathTest, CrashPassedOnByAnEngineDumpsAndEnds) {
  EXPECT_EXIT(crash_with_handler_of_an_engine(), testing::KilledBySignal(SIGSEGV), "fatal signal 11(.|\n)*vcpu13");
}
TEST(FlightRecorderDeathTest, FailedAssertionDumps) {
  EXPECT_EXIT(
      {
        install_crash_handler(nullptr);
        flight::record(flight::ring(13), Event::Note, 0x78);
        VENEER_ASSERT(1 == 2);
      },
      testing::KilledBySignal(SIGABRT), "1 == 2 does not hold(.|\n)*vcpu13");
}

// The detector looks at the rings from number 0 on.
TEST(HangDetector, ReportsAStandstillOnce) {
  HangDetector detector(1);
  flight::record(flight::ring(0), Event::Fault, 1);
  detector.tick(2);
  EXPECT_TRUE(detector.tick(2).empty());
  EXPECT_EQ(detector.tick(2), std::vector<unsigned>{0});
  EXPECT_TRUE(detector.tick(2).empty());
}
TEST(HangDetector, ProgressIsNoHang) {
  HangDetector detector(1);
  for (int i = 0; i < 5; ++i) {
    flight::record(flight::ring(0), Event::Interrupt, 1);
    EXPECT_TRUE(detector.tick(1).empty());
  }
}
TEST(HangDetector, HaltedIsNoHang) {
  HangDetector detector(1);
  flight::record(flight::ring(0), Event::Halt, 1);
  for (int i = 0; i < 5; ++i) EXPECT_TRUE(detector.tick(1).empty());
}

}  // namespace
}  // namespace veneer::debug
