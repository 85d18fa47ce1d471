// PowerControl: how devices ask for the end of the machine, or its reset.
#pragma once

namespace veneer::machine {

/// Implemented by the machine. Every call is thread-safe, returns at once, and is carried out soon after: the vCPU
/// that asked may still run some instructions.
class PowerControl {
 public:
  virtual ~PowerControl() = default;
  /// The guest switched the machine off.
  virtual void power_off() = 0;
  /// The guest pulled a reset line.
  virtual void reset() = 0;
  /// The debug exit device: the monitor ends with this exit status.
  virtual void guest_exit(int status) = 0;
};

}  // namespace veneer::machine
