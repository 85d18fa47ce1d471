// Timers on a clock that counts instructions.
#include "vm/virtual_time.h"

#include <algorithm>
#include <utility>

namespace veneer::vm {

class VirtualTime::VirtualTimer final : public Timer {
 public:
  VirtualTimer(VirtualTime& owner, std::function<void()> callback) : owner_(owner), callback_(std::move(callback)) {
    owner_.timers_.push_back(this);
  }
  ~VirtualTimer() override { std::erase(owner_.timers_, this); }
  void arm(std::uint64_t deadline) override {
    deadline_ns = deadline;
    armed = true;
  }
  void cancel() override { armed = false; }
  void fire() {
    armed = false;
    callback_();
  }

  std::uint64_t deadline_ns = 0;
  bool armed = false;

 private:
  VirtualTime& owner_;
  const std::function<void()> callback_;
};

std::unique_ptr<Timer> VirtualTime::make_timer(std::function<void()> callback) {
  return std::make_unique<VirtualTimer>(*this, std::move(callback));
}

VirtualTime::VirtualTimer* VirtualTime::earliest() const {
  VirtualTimer* best = nullptr;
  for (VirtualTimer* timer : timers_)
    if (timer->armed && (!best || timer->deadline_ns < best->deadline_ns)) best = timer;
  return best;
}

void VirtualTime::advance_to(std::uint64_t now_ns) {
  while (VirtualTimer* next = earliest()) {
    if (next->deadline_ns > now_ns) break;
    now_ns_ = std::max(now_ns_, next->deadline_ns);
    next->fire();
  }
  now_ns_ = std::max(now_ns_, now_ns);
}

std::uint64_t VirtualTime::next_deadline_ns() const {
  const VirtualTimer* next = earliest();
  return next ? next->deadline_ns : ~std::uint64_t{0};
}

}  // namespace veneer::vm
