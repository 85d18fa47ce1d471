// What stubs.S calls from translated code. Register-only.
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/stubs.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {

std::uint64_t entry_memory(BtVcpu* vcpu, const AccessDescriptor* descriptor) {
  const CycleScope scope(vcpu->engine().options().measure_time, vcpu->count.cycles.memory);
  vcpu->engine().cache().code_has_run();
  return vcpu->unless_trial_is_over(vcpu->slow_access(*descriptor));
}

std::uint64_t entry_writeback(BtVcpu* vcpu, const AccessDescriptor* descriptor) {
  const CycleScope scope(vcpu->engine().options().measure_time, vcpu->count.cycles.memory);
  vcpu->engine().cache().code_has_run();
  return vcpu->write_back(*descriptor);
}

std::uint64_t entry_callout(BtVcpu* vcpu, const void* descriptor) {
  const CycleScope scope(vcpu->engine().options().measure_time, vcpu->count.cycles.callouts);
  vcpu->engine().cache().code_has_run();
  const CalloutRecord* record;
  __builtin_memcpy(&record, descriptor, sizeof record);
  return vcpu->unless_trial_is_over(vcpu->callout(*record));
}

}  // namespace veneer::cpu::bt
