// The flight recorder: the last events of each vCPU, recorded wait-free for the moment something goes wrong.
//
// record() may stand in code that must not touch vector or floating-point registers: it is always inlined, uses plain
// integer stores through __atomic builtins (which compilers do not merge into vector stores), and calls nothing.
// Reading (debug/flight_dump.h) happens from signal handlers and other threads, so a record that is being overwritten
// may show fields of two events; the time stamps tell.
#pragma once

#include <cstdint>

namespace veneer::flight {

/// What happened. The comment says what `value` and `detail` mean.
enum class Event : std::uint32_t {
  None,
  RunEnter,   ///< Vcpu::run() began
  RunExit,    ///< Vcpu::run() returned; detail: cpu::ExitReason
  Fault,      ///< an exception is delivered; value: CR2 or 0; detail: vector | error code << 8
  Interrupt,  ///< an external interrupt is delivered; detail: vector
  Nmi,        ///< an NMI is delivered
  Halt,       ///< HLT with nothing pending
  PortRead,   ///< value: what was read; detail: port | size << 16
  PortWrite,  ///< value: what was written; detail: port | size << 16
  MmioRead,   ///< value: guest-physical address; detail: size
  MmioWrite,  ///< value: guest-physical address; detail: size
  MsrRead,    ///< value: what was read; detail: MSR
  MsrWrite,   ///< value: what was written; detail: MSR
  Control,    ///< a control register changed; value: the new value; detail: its number
  TlbFlush,   ///< value: address or 0 for all
  Translate,  ///< a block is translated; value: linear address
  Invalidate, ///< translations were thrown away; value: guest-physical address; detail: bytes
  HostFault,  ///< a host signal hit translated code; value: host address; detail: signal
  Kick,       ///< the vCPU left translated code because it was kicked
  GuestExit,  ///< #VMEXIT; value: EXITINFO2; detail: exit code
  Note,       ///< anything else; value and detail are free
};

struct Record {
  std::uint64_t tsc;     ///< host time stamp counter
  std::uint64_t rip;     ///< guest RIP, as well as it was known
  std::uint64_t value;
  std::uint32_t detail;
  std::uint32_t event;   ///< Event
};
static_assert(sizeof(Record) == 32);

/// One vCPU's last events. Only one thread writes a ring.
struct alignas(64) Ring {
  static constexpr std::uint64_t slots = 1024;  // a power of two
  std::uint64_t next;  ///< how many events were recorded since the start
  std::uint64_t reserved[7];
  Record records[slots];
};

inline constexpr unsigned max_rings = 256;

/// The rings of all vCPUs, by vCPU number; empty where none runs. In .bss: 8 MiB of untouched zero pages.
inline constinit Ring rings[max_rings] = {};

/// The ring of vCPU `index`.
[[gnu::always_inline]] static inline Ring& ring(unsigned index) { return rings[index % max_rings]; }

/// Notes an event. About 15 instructions; wait-free; async-signal-safe on the ring's own thread.
[[gnu::always_inline]] static inline void record(Ring& ring, Event event, std::uint64_t rip, std::uint64_t value = 0,
                                                 std::uint32_t detail = 0) {
  const std::uint64_t number = __atomic_load_n(&ring.next, __ATOMIC_RELAXED);
  Record* slot = &ring.records[number & (Ring::slots - 1)];
  __atomic_store_n(&slot->tsc, __builtin_ia32_rdtsc(), __ATOMIC_RELAXED);
  __atomic_store_n(&slot->rip, rip, __ATOMIC_RELAXED);
  __atomic_store_n(&slot->value, value, __ATOMIC_RELAXED);
  __atomic_store_n(&slot->detail, detail, __ATOMIC_RELAXED);
  __atomic_store_n(&slot->event, static_cast<std::uint32_t>(event), __ATOMIC_RELAXED);
  __atomic_store_n(&ring.next, number + 1, __ATOMIC_RELEASE);
}

}  // namespace veneer::flight
