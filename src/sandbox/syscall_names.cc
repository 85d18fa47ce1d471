// The names, made from the kernel's header when the build is configured.
#include "sandbox/syscall_names.h"

namespace veneer::sandbox {
namespace {

struct Name {
  int number;
  std::string_view name;
};
constexpr Name names[] = {
#include "syscall_names.inc"
};

}  // namespace

std::string_view syscall_name(int number) {
  for (const Name& entry : names)
    if (entry.number == number) return entry.name;
  return {};
}

int syscall_number(std::string_view name) {
  for (const Name& entry : names)
    if (entry.name == name) return entry.number;
  return -1;
}

}  // namespace veneer::sandbox
