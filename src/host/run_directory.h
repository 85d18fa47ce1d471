// The run directory: where the machines of one user are found.
//
// BASE is $XDG_RUNTIME_DIR/veneer or /tmp/veneer-UID, mode 0700. A machine has BASE/NAME/ with
//   pid      its process; locked (flock(2)) while it lives, which is how a dead machine is told from a living one
//   control  its control socket (docs/control.md)
//   log      its messages, when it runs detached
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/result.h"

namespace veneer::host {

/// BASE. Makes it if it is missing; an error when it belongs to somebody else or others may write to it.
Result<std::string> base_directory();

/// Null if the name can be a machine's: 1 to 40 letters, digits, '.', '_' and '-', the first a letter or digit.
std::optional<std::string> name_problem(const std::string& name);

/// A machine that lives.
struct RunningMachine {
  std::string name;
  std::string directory;  ///< BASE/NAME
  pid_t pid = 0;
};

/// A machine that died without tidying up, now removed.
struct DeadMachine {
  std::string name;
  std::string last_words;  ///< the end of its log; usually empty
};

struct Machines {
  std::vector<RunningMachine> running;  ///< by name
  std::vector<DeadMachine> dead;
};

/// Looks at all of them, and removes what dead ones left.
Result<Machines> find_machines();

/// True when the machine of this directory has ended.
bool has_ended(const RunningMachine& machine);

/// The place of a machine of this process. Removed when destroyed.
class RunDirectory {
 public:
  /// Takes the name, or the first of vm1, vm2, ... that is free when it is empty. An error when it is taken.
  static Result<RunDirectory> claim(const std::string& name);
  RunDirectory(RunDirectory&&) = default;
  RunDirectory& operator=(RunDirectory&&) = delete;
  ~RunDirectory();

  const std::string& name() const { return name_; }
  const std::string& path() const { return path_; }
  std::string control_path() const { return path_ + "/control"; }
  std::string log_path() const { return path_ + "/log"; }
  /// What remove() needs to touch, for the sandbox.
  std::string base() const { return path_.substr(0, path_.rfind('/')); }
  /// While kept, the destructor leaves the log for whoever looks next (find_machines()): something went wrong.
  void keep_log() { keep_log_ = true; }
  void forget_log() { keep_log_ = false; }

 private:
  RunDirectory(std::string name, std::string path, Fd pid_file)
      : name_(std::move(name)), path_(std::move(path)), pid_file_(std::move(pid_file)) {}
  static Result<std::optional<RunDirectory>> try_claim(const std::string& base, const std::string& name);

  std::string name_;
  std::string path_;
  Fd pid_file_;
  bool keep_log_ = false;
};

}  // namespace veneer::host
