// ShadowPages: what a check of shadow mode wrote to guest memory. Register-only, except create().
#include <sys/mman.h>

#include <cerrno>

#include "cpu/bt/shadow.h"

namespace veneer::cpu::bt {
namespace {

void* reserve(std::uint64_t bytes) {
  void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? nullptr : p;
}

void copy_page(void* to, const void* from) {
  std::uint64_t words = page_size / 8;
  asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
}

/// Index of the first byte in which two pages differ, or page_size.
std::uint64_t first_different_byte(const std::uint8_t* x, const std::uint8_t* y) {
  for (std::uint64_t at = 0; at < page_size; at += 8) {
    std::uint64_t a, b;
    __builtin_memcpy(&a, x + at, 8);
    __builtin_memcpy(&b, y + at, 8);
    if (a != b) return at + static_cast<unsigned>(__builtin_ctzll(a ^ b)) / 8;
  }
  return page_size;
}

}  // namespace

Result<void> ShadowPages::create() {
  pages_ = static_cast<Page*>(reserve(capacity * sizeof(Page)));
  index_ = static_cast<std::uint32_t*>(reserve(buckets * sizeof(std::uint32_t)));
  before_ = static_cast<std::uint8_t*>(reserve(capacity * page_size));
  after_ = static_cast<std::uint8_t*>(reserve(capacity * page_size));
  if (!pages_ || !index_ || !before_ || !after_) return Error::from_errno("reserving memory for shadow mode", errno);
  return {};
}

ShadowPages::~ShadowPages() {
  if (pages_) ::munmap(pages_, capacity * sizeof(Page));
  if (index_) ::munmap(index_, buckets * sizeof(std::uint32_t));
  if (before_) ::munmap(before_, capacity * page_size);
  if (after_) ::munmap(after_, capacity * page_size);
}

unsigned ShadowPages::bucket_of(HostPtr page) const {
  const std::uint64_t number = reinterpret_cast<std::uint64_t>(page) >> page_shift;
  unsigned at = static_cast<unsigned>((number * 0x9e3779b97f4a7c15u) >> 40) % buckets;
  while (index_[at] && pages_[index_[at] - 1].host != page) at = (at + 1) % buckets;
  return at;
}

void ShadowPages::begin() {
  for (unsigned i = 0; i < count_; i++) index_[pages_[i].bucket] = 0;
  count_ = in_trial_ = 0;
}

bool ShadowPages::before_write(HostPtr page) {
  const unsigned bucket = bucket_of(page);
  if (index_[bucket]) return true;
  if (count_ == capacity) return false;
  copy_page(before_ + count_ * page_size, page);
  pages_[count_] = Page{page, bucket};
  index_[bucket] = ++count_;
  return true;
}

void ShadowPages::take_back() {
  for (unsigned i = 0; i < count_; i++) {
    copy_page(after_ + i * page_size, pages_[i].host);
    copy_page(pages_[i].host, before_ + i * page_size);
  }
  in_trial_ = count_;
}

const std::uint8_t* ShadowPages::first_difference() const {
  for (unsigned i = 0; i < count_; i++) {
    // What only the single instructions wrote, the trial left as it was.
    const std::uint8_t* expected = (i < in_trial_ ? after_ : before_) + i * page_size;
    const auto* now = reinterpret_cast<const std::uint8_t*>(pages_[i].host);
    if (const std::uint64_t at = first_different_byte(now, expected); at < page_size) return now + at;
  }
  return nullptr;
}

std::uint8_t ShadowPages::trial_byte(const std::uint8_t* place) const {
  for (unsigned i = 0; i < count_; i++) {
    const auto offset = static_cast<std::uint64_t>(place - reinterpret_cast<const std::uint8_t*>(pages_[i].host));
    if (offset < page_size) return ((i < in_trial_ ? after_ : before_) + i * page_size)[offset];
  }
  return 0;
}

}  // namespace veneer::cpu::bt
