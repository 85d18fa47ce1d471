// veneer doctor: tries what this host offers and says what to do about what it lacks.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace veneer::cli {

struct DoctorOptions;

/// One line of the report.
struct Finding {
  enum class Level : std::uint8_t {
    Good,     ///< tried, and it works
    Note,     ///< a fact, neither good nor bad
    Limited,  ///< Veneer runs without it, but slower or with less
    Fatal,    ///< Veneer cannot run without it
  };
  Level level = Level::Note;
  std::string what;    ///< "KVM"
  std::string found;   ///< what was tried and what came of it
  std::string advice;  ///< what to do about it; empty when there is nothing to do
};

using Findings = std::vector<Finding>;

// One function per part of the host, each in a file of its own. They run in a single-threaded process (they fork).
void probe_cpu(Findings& findings);
void probe_kernel(Findings& findings);
void probe_memory(Findings& findings);
void probe_kvm(Findings& findings);
void probe_sandbox(Findings& findings);

/// The report as text; `colour` marks the levels with terminal colours.
std::string format_findings(const Findings& findings, bool colour);

/// The subcommand. 0 when Veneer can run here, else 1.
int run_doctor(const DoctorOptions& options);

}  // namespace veneer::cli
