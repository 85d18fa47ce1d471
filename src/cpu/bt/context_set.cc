// Making and unmaking a vCPU's TLB contexts.
#include <sys/mman.h>

#include <cerrno>
#include <new>

#include "base/bits.h"
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
  }
  current_ = &contexts_[0];
  current_->flush(Scope::All);
  return {};
}

void Context::release() {
  for (unsigned r = 0; r < regime_count; r++)
    for (FillLog* log : {&tlb_fills[r].local, &tlb_fills[r].global, &jump_log[r], &exec_log[r]}) log->clear();
  ::madvise(reinterpret_cast<std::uint8_t*>(layout) + page_size, layout_bytes - page_size, MADV_DONTNEED);
  // The logs are empty: whole pages of them hold nothing.
  const auto begin = align_up(reinterpret_cast<std::uint64_t>(&tlb_fills), page_size);
  const auto end = reinterpret_cast<std::uint64_t>(&local_jumps) & ~page_offset_mask;
  ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
  released = true;
}

void ContextSet::release() {
  for_each([&](Context& context) {
    context.release();
    if (&context == current_) return context.flush(Scope::All);
    context.tag = ~std::uint64_t{0};
    context.last_use = 0;
  });
}

ContextSet::~ContextSet() {
  if (!contexts_) return;
  for (unsigned i = 0; i < count; i++)
    if (contexts_[i].layout) ::munmap(contexts_[i].layout, layout_bytes);
  ::munmap(contexts_, count * sizeof(Context));
}

}  // namespace veneer::cpu::bt
