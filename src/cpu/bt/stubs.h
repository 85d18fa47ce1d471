// The entry points of stubs.S.
#pragma once

#include <cstdint>

namespace veneer::cpu::bt {
class BtVcpu;
struct AccessDescriptor;

// entries.cc: what VcpuBlock::fn_memory, fn_writeback and fn_callout point at.
std::uint64_t entry_memory(BtVcpu* vcpu, const AccessDescriptor* descriptor);
std::uint64_t entry_writeback(BtVcpu* vcpu, const AccessDescriptor* descriptor);
std::uint64_t entry_callout(BtVcpu* vcpu, const void* descriptor);
}  // namespace veneer::cpu::bt

extern "C" {
void veneer_bt_enter(const void* code, std::uint64_t t0);
extern const std::uint8_t veneer_bt_stub_lookup[];
extern const std::uint8_t veneer_bt_stub_branch[];
extern const std::uint8_t veneer_bt_stub_link[];
extern const std::uint8_t veneer_bt_stub_exit[];
extern const std::uint8_t veneer_bt_stub_memory[];
extern const std::uint8_t veneer_bt_stub_writeback[];
extern const std::uint8_t veneer_bt_stub_group[];
extern const std::uint8_t veneer_bt_stub_callout[];
extern const std::uint8_t veneer_bt_stub_bottom[];
// By the logarithm of the element's size.
extern const std::uint8_t veneer_bt_stub_stos_0[], veneer_bt_stub_stos_1[], veneer_bt_stub_stos_2[],
    veneer_bt_stub_stos_3[];
extern const std::uint8_t veneer_bt_stub_movs_0[], veneer_bt_stub_movs_1[], veneer_bt_stub_movs_2[],
    veneer_bt_stub_movs_3[];
}
