// veneer doctor: the report.
#include "cli/doctor/doctor.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "cli/options.h"

namespace veneer::cli {
namespace {

struct Mark {
  const char* word;
  const char* colour;
};

Mark mark_of(Finding::Level level) {
  switch (level) {
    case Finding::Level::Good:
      return {"ok", "\033[32m"};
    case Finding::Level::Note:
      return {"--", ""};
    case Finding::Level::Limited:
      return {"lack", "\033[33m"};
    case Finding::Level::Fatal:
      return {"FAIL", "\033[31m"};
  }
  return {"?", ""};
}

}  // namespace

std::string format_findings(const Findings& findings, bool colour) {
  std::string out;
  for (const Finding& finding : findings) {
    const Mark mark = mark_of(finding.level);
    const std::string word = fmt::format("{:<4}", mark.word);
    out += colour && *mark.colour != 0 ? fmt::format("{}{}\033[0m", mark.colour, word) : word;
    out += fmt::format("  {:<20} {}\n", finding.what, finding.found);
    if (!finding.advice.empty()) out += fmt::format("{:<27}=> {}\n", "", finding.advice);
  }
  return out;
}

int run_doctor(const DoctorOptions& options) {
  Findings findings;
  for (const auto probe : {probe_cpu, probe_kernel, probe_memory, probe_kvm, probe_sandbox}) probe(findings);
  const bool colour = !options.plain && isatty(STDOUT_FILENO);
  fmt::print("{}", format_findings(findings, colour));

  const bool fatal =
      std::any_of(findings.begin(), findings.end(), [](const Finding& f) { return f.level == Finding::Level::Fatal; });
  fmt::print("\n{}\n", fatal ? "Veneer cannot run here: see the lines marked FAIL." : "Veneer can run guests here.");
  if (std::fflush(stdout) != 0) return 1;
  return fatal ? 1 : 0;
}

}  // namespace veneer::cli
