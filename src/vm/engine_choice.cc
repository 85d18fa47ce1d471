// Which engine runs a machine.
#include "base/log.h"
#include "vm/machine.h"

namespace veneer::vm {

Result<std::unique_ptr<cpu::Engine>> choose_engine(const MachineConfig& config, machine::GuestMemory& memory,
                                                   cpu::Board& board, const cpu::CpuidPolicy& cpuid) {
  switch (config.engine) {
    case EngineKind::Kvm:
      return Error("--engine kvm is not in this version; use bt or auto");
    case EngineKind::Auto:
      log_info("engine: bt (binary translation; this version has no other)");
      break;
    case EngineKind::Bt:
      log_info("engine: bt (binary translation)");
      break;
  }
  return cpu::make_bt_engine(memory, board, cpuid, config.engine_options);
}

}  // namespace veneer::vm
