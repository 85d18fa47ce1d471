// Landlock: no files beyond those that are open, no TCP, no signals to others.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace veneer::sandbox {

/// The version of the kernel's Landlock ABI, or 0 when it has none.
int landlock_version();

/// A set of rules that forbids everything this kernel's Landlock knows of, except for removing files below
/// `cleanup_directories`. Directories that do not exist are left out. An error when the kernel refuses.
/// With Tcp::Allowed connections can be made and ports be bound.
enum class Tcp : std::uint8_t { Forbidden, Allowed };
/// Files below `readable_directories` can be read.
Result<Fd> make_landlock_ruleset(const std::vector<std::string>& cleanup_directories, Tcp tcp = Tcp::Forbidden,
                                 const std::vector<std::string>& readable_directories = {});

/// Confines the calling thread and what it starts, for good. Needs no_new_privs.
Result<void> enforce_landlock(const Fd& ruleset);

}  // namespace veneer::sandbox
