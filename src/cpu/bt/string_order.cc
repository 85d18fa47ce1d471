// Asks the host's CPUID about REPE CMPSB.
#include "cpu/bt/string_order.h"

#include <cpuid.h>

namespace veneer::cpu::bt {
namespace {

bool ask_host() {
  unsigned a, b, c, d;
  if (!__get_cpuid(0, &a, &b, &c, &d)) return false;
  const bool amd = b == signature_AMD_ebx && c == signature_AMD_ecx && d == signature_AMD_edx;
  if (!amd) return false;
  // APM 3 appendix E.4.21: FSRC, fast short REPE CMPSB. Hypervisors often hide it; Zen 4 shows by its AVX-512.
  if (__get_cpuid(0x80000021, &a, &b, &c, &d) && (a & 1u << 11)) return true;
  constexpr unsigned AVX512F = 1u << 16;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & AVX512F);
}

}  // namespace

const bool repe_cmpsb_reads_source_first = ask_host();

}  // namespace veneer::cpu::bt
