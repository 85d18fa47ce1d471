// The engines that must pass this suite, and how each is made.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <ostream>
#include <string_view>
#include <vector>

#include "cpu/engine.h"

namespace veneer::engine_tests {

/// One engine in one setting.
struct EngineKind {
  const char* name;
  Result<std::unique_ptr<cpu::Engine>> (*make)(machine::GuestMemory&, cpu::Board&, const cpu::CpuidPolicy&);
};

/// For gtest's messages.
inline void PrintTo(const EngineKind& kind, std::ostream* out) { *out << kind.name; }

/// All of them. A new engine, or a new setting of one, is one more element.
const std::vector<EngineKind>& engine_kinds();

/// Why this test ("Suite.Test") is known to fail, or null. The list in known_failures.cc may only shrink.
const char* known_failure(std::string_view test);

/// TEST_P suites of this folder: `ENGINE_SUITE(Ports);` and every engine runs them.
#define ENGINE_SUITE(fixture)                                                                        \
  INSTANTIATE_TEST_SUITE_P(Engine, fixture, testing::ValuesIn(veneer::engine_tests::engine_kinds()), \
                           [](const auto& kind) { return std::string(kind.param.name); })

}  // namespace veneer::engine_tests
