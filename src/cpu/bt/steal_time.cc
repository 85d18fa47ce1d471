// Steal time: how long a vCPU wanted to run and did not, told to the guest (KVM's paravirtual ABI, MSR 0x4b564d03).
//
// State: the page is the guest's; what was last measured is in BtVcpu::steal_.
// Missing: `preempted` is not set while the host runs something else on this vCPU's core: a process is not told.
// Spec: Linux, Documentation/virt/kvm/x86/msr.rst.
#include <time.h>

#include "cpu/bt/engine_impl.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {
namespace {

/// kvm_steal_time, 64 bytes at an address that is a multiple of 64.
struct StealPage {
  std::uint64_t steal_ns;
  std::uint32_t version;  ///< odd while steal_ns changes
  std::uint32_t flags;
  std::uint8_t preempted;
  std::uint8_t pad[47];
};
static_assert(sizeof(StealPage) == 64);

constexpr std::uint64_t ENABLED = 1, ADDRESS = ~std::uint64_t{63};
constexpr std::uint8_t PREEMPTED = 1, FLUSH_TLB = 2;

std::uint64_t now_ns(clockid_t clock) {
  timespec t;
  ::clock_gettime(clock, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<std::uint64_t>(t.tv_nsec);
}

/// The guest's page, or null: off, or not in RAM.
StealPage* page_of(BtVcpu& v) {
  if (!(v.s.kvm_steal_time & ENABLED) || v.engine().options().deterministic) return nullptr;
  const GuestPhys place{v.s.kvm_steal_time & ADDRESS};
  const machine::MemorySlot* slot = v.engine().memory().find(place);
  if (!slot || slot->kind != machine::SlotKind::Ram) return nullptr;
  return reinterpret_cast<StealPage*>(slot->host + (place - slot->base));
}

}  // namespace

void BtVcpu::steal_time_begin() {
  if (!(s.kvm_steal_time & ENABLED)) return;
  steal_.wall_ns = now_ns(CLOCK_MONOTONIC);
  steal_.cpu_ns = now_ns(CLOCK_THREAD_CPUTIME_ID);
}

/// Time since the last look in which this thread had no core although its vCPU was not halted: it waited for one, for
/// the host in a device, or for another vCPU. The guest adds it up in its own page.
void BtVcpu::steal_time_measure() {
  StealPage* page = page_of(*this);
  if (!page) return;
  steal_.updated_tsc = __builtin_ia32_rdtsc();
  const std::uint64_t wall = now_ns(CLOCK_MONOTONIC), cpu = now_ns(CLOCK_THREAD_CPUTIME_ID);
  // The guest turned it on in the middle of this run: measured from here.
  const std::uint64_t wall_passed = steal_.wall_ns ? wall - steal_.wall_ns : 0, cpu_passed = cpu - steal_.cpu_ns;
  steal_.wall_ns = wall;
  steal_.cpu_ns = cpu;
  if (wall_passed <= cpu_passed) return;
  const std::uint32_t version = __atomic_load_n(&page->version, __ATOMIC_RELAXED) | 1;
  __atomic_store_n(&page->version, version, __ATOMIC_SEQ_CST);
  __atomic_fetch_add(&page->steal_ns, wall_passed - cpu_passed, __ATOMIC_SEQ_CST);
  __atomic_store_n(&page->version, version + 1, __ATOMIC_SEQ_CST);
  engine_.memory().written(GuestPhys{s.kvm_steal_time & ADDRESS}, sizeof(StealPage));
}

/// Inside. Another vCPU that found this one preempted left its TLB flush to us.
void BtVcpu::steal_time_resume() {
  StealPage* page = page_of(*this);
  if (!page) return;
  if (!__atomic_load_n(&page->preempted, __ATOMIC_RELAXED)) return;
  const std::uint8_t was = __atomic_exchange_n(&page->preempted, 0, __ATOMIC_SEQ_CST);
  if (was & FLUSH_TLB) flush_all_contexts();
  engine_.memory().written(GuestPhys{s.kvm_steal_time & ADDRESS}, sizeof(StealPage));
}

/// Outside. From here until steal_time_resume() this vCPU looks at no translation of an address, so whoever changes
/// page tables may leave the flush to it instead of sending an interrupt.
void BtVcpu::steal_time_end(bool halted) {
  steal_time_measure();
  steal_.wall_ns = 0;
  if (!halted) return;
  StealPage* page = page_of(*this);
  if (!page) return;
  __atomic_store_n(&page->preempted, PREEMPTED, __ATOMIC_SEQ_CST);
  engine_.memory().written(GuestPhys{s.kvm_steal_time & ADDRESS}, sizeof(StealPage));
}

}  // namespace veneer::cpu::bt
