// The whole state of a machine: saving it, and making a machine from it.
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <future>
#include <memory>
#include <utility>

#include "vm/machine.h"
#include "vm/machine_file.h"

namespace veneer::vm {
namespace {

/// How far this host's TSC may be from the rate that the guest was told. Calibration is good to some parts per million.
constexpr double largest_tsc_difference = 0.001;
constexpr std::chrono::seconds disk_patience{60};

}  // namespace

Result<void> Machine::save(const Fd& file) {
  if (!control_.paused()) return Error("the machine has to be paused before it is saved");
  // Before anything is written down: what completes raises interrupts, which other devices then hold.
  TRY_VOID(settle_disks());
  machine::SnapshotWriter out;
  const std::lock_guard hold(lock_);
  out.section("machine");
  out.put(tsc_.paused_now());
  for (const auto& thread : threads_) {
    cpu::ArchState state;
    thread->vcpu().get_state(state);
    state.tsc_offset -= tsc_.offset();  // what the guest added by writing its TSC
    out.section("vcpu");
    out.put(state);
    out.put(static_cast<std::uint8_t>(thread->waiting_for_startup()));
  }
  board_->save(out);
  out.section("end");
  const SavedConfig config{
      config_.machine,  config_.cpus,     config_.memory_bytes, cpuid_->tsc_hz(),          config_.debug_exit,
      config_.kernel,   config_.initrd,   config_.cmdline,      board_->network().parts(), board_->disks().saved(),
      config_.cpu.text, config_.firmware, config_.boot_order,   config_.boot_menu,         config_.modules,
      config_.balloon,  config_.console,  config_.iommu};
  return write_machine_file(file, config, out.data(), memory_);
}

/// On the event loop's thread, which may use disks (docs/security.md).
Result<void> Machine::settle_disks() {
  const auto answer = std::make_shared<std::promise<Result<void>>>();
  auto future = answer->get_future();
  events_.post([this, answer] { answer->set_value(board_->disks().prepare_save()); });
  if (future.wait_for(disk_patience) != std::future_status::ready)
    return Error(fmt::format("the disks did not come to rest within {} s", disk_patience.count()));
  return future.get();
}

Result<void> Machine::check_saved(const MachineFile& saved, std::uint64_t host_tsc_hz) const {
  const SavedConfig& was = saved.config;
  if (was.machine != config_.machine || was.cpus != config_.cpus || was.memory_bytes != config_.memory_bytes ||
      was.debug_exit != config_.debug_exit || was.iommu != config_.iommu || was.disks.size() != config_.disks.size())
    return Error("the saved machine has other parts than this one");
  const double ratio = static_cast<double>(host_tsc_hz) / static_cast<double>(was.tsc_hz);
  if (std::abs(ratio - 1) > largest_tsc_difference)
    return Error(
        fmt::format("it was saved on a host with another TSC rate ({} Hz, here {} Hz): the guest's clock would "
                    "run wrong. Restore it on a host like the first one",
                    was.tsc_hz, host_tsc_hz));
  return {};
}

/// vCPUs parked, not started yet; devices in their reset state.
Result<void> Machine::restore(const MachineFile& saved) {
  const std::lock_guard hold(lock_);
  TRY_VOID(board_->disks().check_saved(saved.config.disks, config_.disks_replaced));
  machine::SnapshotReader in(saved.state);
  in.section("machine");
  tsc_.start_at(in.get<std::uint64_t>());
  for (const auto& thread : threads_) {
    in.section("vcpu");
    cpu::ArchState state;
    in.get(state);
    state.tsc_offset += tsc_.offset();
    const bool waiting = in.get<std::uint8_t>() != 0;
    if (in.ok()) thread->restore_state(state, waiting);
  }
  if (const std::string cards = board_->network().parts(); cards != saved.config.nets)
    return Error(fmt::format("it had {}, and here is {}: give one --net for each, with the same queues",
                             saved.config.nets, cards));
  board_->restore(in);
  in.section("end");
  if (!in.ok()) return Error("its state does not fit this version of Veneer");
  return {};
}

}  // namespace veneer::vm
