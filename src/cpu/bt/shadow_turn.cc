// Shadow mode's part of the run loop. Register-only.
#include "cpu/bt/engine_impl.h"
#include "cpu/bt/shadow.h"
#include "cpu/bt/vcpu.h"

namespace veneer::cpu::bt {

void BtVcpu::shadow_turn(LinkSite*& link_site, std::uint64_t& link_flushes) {
  Shadow& w = *shadow_;
  if (w.phase == Shadow::Phase::Trial) {
    with_vectors_saved([&] { shadow_end_trial(link_site, link_flushes); });
    link_site = nullptr;
  }
  if (w.following() && !shadow_follows()) {
    // The trial left for the ungrouped variant of what comes now.
    link_site = w.trial_link && b->rip == w.trial.state.rip ? w.trial_link : nullptr;
    link_flushes = w.trial_link_flushes;
  }
}

/// A block is about to be entered: as the next single instruction of a check, or maybe for a trial.
void BtVcpu::shadow_look_at(Block& block, std::uint64_t linear, bool one) {
  Shadow& w = *shadow_;
  if (w.following()) {
    w.steps++;
    return;
  }
  const bool skip = w.skip_next;
  w.skip_next = false;
  if (one || skip || w.done_with(block)) return;
  with_vectors_saved([&] { shadow_begin(block, linear); });
}

/// False when the single instructions are where the trial was, or cannot get there any more.
bool BtVcpu::shadow_follows() {
  Shadow& w = *shadow_;
  const bool left = count.events != w.events_before || shutdown_ ||
                    (w.steps && (w.steps == w.line_length || b->rip != w.line[w.steps]));
  const bool there = b->rip == w.trial.state.rip && (w.steps || w.may_stay);
  if (!left && !there) return true;
  bool equal = false;
  with_vectors_saved([&] { equal = shadow_equal(); });
  // It may be only on its way: a jump back to this instruction.
  if (!equal && !left) return true;
  with_vectors_saved([&] { shadow_finish(equal); });
  return false;
}

bool BtVcpu::shadow_lets_write(HostPtr page) {
  if (!shadow_->busy() || shadow_->pages.before_write(page)) return true;
  if (shadow_->following()) return true;  // too much to compare, but what is done counts
  shadow_->aborted = true;
  return false;
}

bool BtVcpu::shadow_keeps_off_device() {
  if (!shadow_ || shadow_->phase != Shadow::Phase::Trial) return false;
  shadow_->aborted = true;
  return true;
}

}  // namespace veneer::cpu::bt
