// Making and unmaking a vCPU's TLB contexts.
#include <sys/mman.h>

#include <cerrno>
#include <new>

#include "cpu/bt/context.h"

namespace veneer::cpu::bt {
namespace {
constexpr std::size_t layout_bytes = (sizeof(ContextLayout) + page_size - 1) & ~(page_size - 1);
}

Result<void> ContextSet::create() {
  memfd_ = Fd(::memfd_create("veneer-vcpu", MFD_CLOEXEC));
  if (!memfd_.valid() || ::ftruncate(memfd_.get(), static_cast<off_t>(page_size)) != 0)
    return Error::from_errno("making the vCPU block (memfd)", errno);
  void* objects = ::mmap(nullptr, count * sizeof(Context), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (objects == MAP_FAILED) return Error::from_errno("reserving TLB contexts", errno);
  contexts_ = static_cast<Context*>(objects);
  for (unsigned i = 0; i < count; i++) {
    Context* context = new (&contexts_[i]) Context;
    void* region =
        ::mmap(nullptr, layout_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (region == MAP_FAILED) return Error::from_errno("reserving a TLB context", errno);
    ::madvise(region, layout_bytes, MADV_NOHUGEPAGE);
    if (::mmap(region, page_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, memfd_.get(), 0) == MAP_FAILED)
      return Error::from_errno("mapping the vCPU block", errno);
    context->layout = static_cast<ContextLayout*>(region);
    context->flush(Scope::All);
  }
  current_ = &contexts_[0];
  return {};
}

ContextSet::~ContextSet() {
  if (!contexts_) return;
  for (unsigned i = 0; i < count; i++)
    if (contexts_[i].layout) ::munmap(contexts_[i].layout, layout_bytes);
  ::munmap(contexts_, count * sizeof(Context));
}

}  // namespace veneer::cpu::bt
