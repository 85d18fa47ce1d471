// The programmable attribute map (82441FX 3.2.18).
#include "devices/pci/host_bridge.h"

namespace veneer::devices {

HostBridge::HostBridge(ShadowListener shadow)
    : PciFunction("host-bridge", {0x8086, 0x1237, 0x02, 0x060000, 0, 0, 0}), shadow_(std::move(shadow)) {
  make_writable(PAM0, 4, 0xffff'ffff);
  make_writable(PAM0 + 4, 3, 0x00ff'ffff);
  make_writable(SMRAM, 1, 0x7f);
  set_config(SMRAM, 1, 0x02);
}

/// Of each nibble bit 0 is RE, bit 1 WE. PAM0's high nibble is F0000h-FFFFFh; PAM1 to PAM6 have 16 KiB in each nibble,
/// upwards from C0000h.
void HostBridge::apply_shadow() {
  if (!shadow_) return;
  const auto tell = [&](std::uint32_t base, std::uint32_t bytes, std::uint32_t nibble) {
    shadow_(base, bytes, (nibble & 1) != 0, (nibble & 2) != 0);
  };
  tell(0xf'0000, 0x1'0000, config(PAM0, 1) >> 4);
  for (unsigned i = 1; i < PAM_COUNT; ++i) {
    const std::uint32_t base = 0xc'0000 + (i - 1) * 0x8000;
    tell(base, 0x4000, config(PAM0 + i, 1) & 0xf);
    tell(base + 0x4000, 0x4000, config(PAM0 + i, 1) >> 4);
  }
}

void HostBridge::write_config(unsigned offset, unsigned size_bytes, std::uint32_t value) {
  PciFunction::write_config(offset, size_bytes, value);
  if (offset + size_bytes > PAM0 && offset < PAM0 + PAM_COUNT) apply_shadow();
}

void HostBridge::restore(machine::SnapshotReader& in) {
  PciFunction::restore(in);
  apply_shadow();
}

void HostBridge::reset() {
  PciFunction::reset();
  apply_shadow();
}

}  // namespace veneer::devices
