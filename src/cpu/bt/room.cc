// Room for translations, and giving memory back when nobody needs it: what stops all vCPUs to throw code away.
//
// docs/engine.md, "The code cache"; docs/smp.md, "Idle machines".
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

// Below this there is nothing to gain: an idle guest fills as much again.
constexpr std::uint64_t least_fills = 256;  // a few pages of the host's each
constexpr std::uint64_t least_code_bytes = 4 * MiB;

}  // namespace

/// This vCPU, which stands still, holds nothing any more that leads into code that was thrown away.
void BtVcpu::code_is_gone() {
  drop_returns();
  contexts_.for_each([](Context& c) {
    for (unsigned r = 0; r < regime_count; r++) {
      c.flush_jumps(static_cast<Regime>(r));
      c.flush_exec(static_cast<Regime>(r));
    }
  });
}

/// Throws old translations away, unless somebody else just did.
void BtVcpu::make_room_for_code() {
  const StopGate::Stopped stopped(engine_.stop_gate(), index_, ~std::uint64_t{0});
  engine_.for_each_vcpu(~std::uint64_t{0}, [](BtVcpu& v) { v.settle_x87_pointers(); });
  const CodeLockGuard hold(engine_.cache().lock());
  if (!engine_.cache().nearly_full()) return;
  engine_.cache().make_room();
  engine_.for_each_vcpu(~std::uint64_t{0}, [](BtVcpu& v) { v.code_is_gone(); });
}

bool BtVcpu::give_back_memory(bool all) {
  if (shadow_ || engine_.options().deterministic) return false;
  CodeCache& cache = engine_.cache();
  const bool tables = count.tlb_fills - fills_at_giving_ >= least_fills;
  const bool code = all && cache.used_bytes() + cache.arena_used_bytes() >= least_code_bytes;
  if (!tables && !code) return false;
  engine_.stop_gate().enter(index_);  // others change the TLB of a vCPU that is outside
  if (code) {
    const StopGate::Stopped stopped(engine_.stop_gate(), index_, ~std::uint64_t{0});
    engine_.for_each_vcpu(~std::uint64_t{0}, [](BtVcpu& v) { v.settle_x87_pointers(); });
    const CodeLockGuard hold(cache.lock());
    cache.give_back();
    engine_.for_each_vcpu(~std::uint64_t{0}, [](BtVcpu& v) { v.code_is_gone(); });
  }
  if (tables) {
    drop_returns();
    contexts_.release();
    fills_at_giving_ = count.tlb_fills;
  }
  engine_.stop_gate().leave(index_);
  return true;
}

}  // namespace veneer::cpu::bt
