// Which bits of control registers a guest's processor has (SDM 3A 2.5).
#pragma once

#include "cpu/cpuid_features.h"
#include "cpu/state.h"

namespace veneer::cpu::bt {

/// CR4's bits are reserved without their features (SDM 3A 2.5). PCE came with RDPMC, which has no bit of its own.
inline std::uint64_t cr4_allowed(const CpuidPolicy& p) {
  constexpr struct {
    Feature feature;
    std::uint64_t bits;
  } rows[] = {
      {Feature::VME, CR4_VME | CR4_PVI}, {Feature::TSC, CR4_TSD},        {Feature::DE, CR4_DE},
      {Feature::PSE, CR4_PSE},           {Feature::PAE, CR4_PAE},        {Feature::PGE, CR4_PGE},
      {Feature::FXSR, CR4_OSFXSR},       {Feature::SSE, CR4_OSXMMEXCPT}, {Feature::UMIP, CR4_UMIP},
      {Feature::FSGSBASE, CR4_FSGSBASE}, {Feature::PCID, CR4_PCIDE},     {Feature::XSAVE, CR4_OSXSAVE},
      {Feature::SMEP, CR4_SMEP},         {Feature::SMAP, CR4_SMAP},      {Feature::MCE, CR4_MCE},
  };
  std::uint64_t allowed = p.family() >= 6 ? CR4_PCE : 0;
  for (const auto& row : rows)
    if (has(p, row.feature)) allowed |= row.bits;
  return allowed;
}

}  // namespace veneer::cpu::bt
