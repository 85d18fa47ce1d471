// The engine's counters as named groups.
#include <Zydis/Zydis.h>

#include "cpu/bt/engine_impl.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {

static_assert(ZYDIS_MNEMONIC_MAX_VALUE < VcpuCounters::mnemonics);

std::vector<CounterGroup> BtEngine::counters() const {
  const CodeCache::Counters& c = cache_.counters();
  return {{"translation",
           {{"blocks", c.blocks},
            {"guest_instructions", c.instructions},
            {"guest_bytes", c.guest_bytes},
            {"host_hot_bytes", c.hot_bytes},
            {"host_cold_bytes", c.cold_bytes},
            {"links", c.links},
            {"invalidated_blocks", c.invalidated},
            {"flushes", c.flushes}}},
          {"code_cache",
           {{"used_bytes", cache_.used_bytes()},
            {"capacity_bytes", cache_.capacity_bytes()},
            {"tables_used_bytes", cache_.arena_used_bytes()},
            {"tables_capacity_bytes", cache_.arena_capacity_bytes()}}}};
}

std::vector<CounterGroup> BtVcpu::counters() const {
  const VcpuCounters& c = count;
  auto exits = [&](ExitKind kind) { return c.exits[static_cast<unsigned>(kind)]; };
  std::vector<CounterGroup> groups = {
      {"exits",
       {{"look_up", exits(ExitKind::Lookup)},
        {"link", exits(ExitKind::Link)},
        {"poll", exits(ExitKind::Poll)},
        {"resume", exits(ExitKind::Resume)},
        {"native_fault", exits(ExitKind::Fault)}}},
      {"look_ups", {{"block_look_ups", c.lookups}, {"jump_cache_misses", c.jump_misses}}},
      {"memory",
       {{"slow_accesses", c.slow_accesses},
        {"tlb_fills", c.tlb_fills},
        {"bounced", c.bounces},
        {"code_writes", c.code_writes},
        {"context_loads", c.context_switches},
        {"context_flushes", contexts_.flushes()}}},
      {"events",
       {{"delivered", c.events}, {"polls", c.polls}, {"native_faults", c.native_faults}, {"callouts", c.callouts}}}};
  CounterGroup by_instruction{"callouts_by_instruction", {}};
  for (unsigned i = 0; i <= ZYDIS_MNEMONIC_MAX_VALUE; i++)
    if (c.callouts_by_mnemonic[i])
      by_instruction.values.emplace_back(ZydisMnemonicGetString(static_cast<ZydisMnemonic>(i)),
                                         c.callouts_by_mnemonic[i]);
  groups.push_back(std::move(by_instruction));
  if (engine_.options().measure_time) {
    const double ns_per_cycle = 1e9 / static_cast<double>(engine_.cpuid().tsc_hz());
    auto ns = [&](std::uint64_t cycles) {
      return static_cast<std::uint64_t>(static_cast<double>(cycles) * ns_per_cycle);
    };
    const auto& t = c.cycles;
    groups.push_back({"time_ns",
                      {{"running", ns(t.running)},
                       {"translated_code", ns(t.inside - t.memory - t.callouts)},
                       {"memory_slow_paths", ns(t.memory)},
                       {"callouts", ns(t.callouts)},
                       {"translation", ns(t.translation)},
                       {"run_loop", ns(t.running - t.inside - t.translation)}}});
  }
  if (shadow_) {
    const Shadow::Counters& w = shadow_->counters;
    groups.push_back({"shadow",
                      {{"checked_blocks", w.checked},
                       {"checked_instructions", w.instructions},
                       {"differences", w.differences},
                       {"trials_stopped_at_devices", w.devices},
                       {"blocks_given_up", w.given_up}}});
  }
  groups.push_back({"start", {{"first_run_monotonic_ns", c.first_run_ns}}});
  return groups;
}

}  // namespace veneer::cpu::bt
