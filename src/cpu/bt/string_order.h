// Which operand of REPE CMPSB the host's processor reads first, which shows when both fault.
#pragma once

namespace veneer::cpu::bt {

/// Processors whose REPE CMPSB is fast on short strings read [rSI] first (Zen 4); all other comparisons, and older
/// processors (Zen 3), read ES:[rDI] first. The manuals leave it open.
extern const bool repe_cmpsb_reads_source_first;

}  // namespace veneer::cpu::bt
