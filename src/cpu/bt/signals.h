// Signals that translated code causes on purpose or by the guest's doing.
#pragma once

#include <cstddef>

namespace veneer::cpu::bt {

class BtVcpu;

/// Installs the process-wide handlers (SIGSEGV, SIGBUS, SIGFPE, SIGILL) once.
void install_signal_handlers();

/// While alive, faults in translated code on this thread belong to `vcpu`; gives the thread an alternate stack.
class ThreadScope {
 public:
  explicit ThreadScope(BtVcpu& vcpu);
  ~ThreadScope();
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  BtVcpu* previous_;
};

}  // namespace veneer::cpu::bt
