// Whether this processor and kernel can run Veneer at all.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace veneer::cli {

/// Names of x86-64-v3 features that this processor lacks (x86-64 psABI 3.1.1), as the manuals spell them. Empty: all
/// there.
std::vector<std::string> missing_cpu_features();

/// Why Veneer cannot run here, in one sentence; nothing when it can. Uses only what every x86-64 processor has, so
/// that it can be called before anything else.
std::optional<std::string> host_problem();

/// "6.1.0" >= 5.10. False for text that is no version.
bool kernel_at_least(const char* release, unsigned major, unsigned minor);

}  // namespace veneer::cli
