// The one way in which Veneer aborts itself.
#include "base/assert.h"

#include <cstdio>
#include <cstdlib>

namespace veneer {
namespace {
void (*assertion_hook)() = nullptr;
}

void set_assertion_hook(void (*hook)()) { assertion_hook = hook; }

void assertion_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "veneer: bug: %s does not hold (%s:%d). Please report this.\n", condition, file, line);
  if (auto hook = assertion_hook) {
    assertion_hook = nullptr;
    hook();
  }
  std::abort();
}

}  // namespace veneer
