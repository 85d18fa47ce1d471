// What tools/check_register_only.py must find: vector code reached from a routine of translated code, two calls down.
#include <cstdint>

namespace veneer::cpu::bt {

class BtVcpu;
struct AccessDescriptor;

volatile double weight = 1.5;

[[gnu::noinline]] std::uint64_t weigh(std::uint64_t value) {
  weight = weight * static_cast<double>(value);
  return static_cast<std::uint64_t>(weight);
}

[[gnu::noinline]] std::uint64_t innocent_looking(std::uint64_t value) { return weigh(value + 1) * 3; }

std::uint64_t entry_memory(BtVcpu*, const AccessDescriptor*) { return innocent_looking(5); }

}  // namespace veneer::cpu::bt

int main() { return static_cast<int>(veneer::cpu::bt::entry_memory(nullptr, nullptr)); }
