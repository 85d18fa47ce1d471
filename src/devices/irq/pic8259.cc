// Two 8259A interrupt controllers in cascade.
#include "devices/irq/pic8259.h"

#include "base/bits.h"

namespace veneer::devices {
namespace {

// ICW1
constexpr std::uint8_t ICW1_IC4 = 0x01;   // ICW4 follows
constexpr std::uint8_t ICW1_SNGL = 0x02;  // no cascade: no ICW3
constexpr std::uint8_t ICW1_LTIM = 0x08;
constexpr std::uint8_t ICW1 = 0x10;
// ICW4
constexpr std::uint8_t ICW4_AEOI = 0x02;
constexpr std::uint8_t ICW4_SFNM = 0x10;
// OCW3
constexpr std::uint8_t OCW3 = 0x08;
constexpr std::uint8_t OCW3_RIS = 0x01;
constexpr std::uint8_t OCW3_RR = 0x02;
constexpr std::uint8_t OCW3_P = 0x04;
constexpr std::uint8_t OCW3_SMM = 0x20;
constexpr std::uint8_t OCW3_ESMM = 0x40;

/// OCW2 bits 7-5: R, SL, EOI.
enum class Ocw2 : std::uint8_t {
  ClearRotateOnAutoEoi = 0,
  NonSpecificEoi = 1,
  Nothing = 2,
  SpecificEoi = 3,
  SetRotateOnAutoEoi = 4,
  RotateOnNonSpecificEoi = 5,
  SetPriority = 6,
  RotateOnSpecificEoi = 7,
};

constexpr unsigned cascade_input = 2;
constexpr unsigned spurious_input = 7;

constexpr std::uint8_t mask_of(unsigned input) { return static_cast<std::uint8_t>(1u << input); }

}  // namespace

// --- one chip ---

void Pic8259::set_input(unsigned input, bool level) {
  const std::uint8_t line = mask_of(input);
  if (level) {
    if (!(lines_ & line)) edge_latch_ |= line;
    lines_ |= line;
  } else {
    // A request that goes away before INTA is lost (8259A: "the IR inputs must remain high").
    edge_latch_ = static_cast<std::uint8_t>(edge_latch_ & ~line);
    lines_ = static_cast<std::uint8_t>(lines_ & ~line);
  }
  update();
}

void Pic8259::set_edge_level(std::uint8_t level_inputs) {
  elcr_ = level_inputs;
  update();
}

std::uint8_t Pic8259::requests() const {
  const std::uint8_t level = level_mode_ ? 0xff : elcr_;
  return static_cast<std::uint8_t>((lines_ & level) | (edge_latch_ & ~level));
}

/// In-service inputs that hold back others.
std::uint8_t Pic8259::blocking() const {
  std::uint8_t inputs = isr_;
  if (special_mask_) inputs = static_cast<std::uint8_t>(inputs & ~imr_);
  return inputs;
}

int Pic8259::highest(std::uint8_t inputs) const {
  for (unsigned i = 1; i <= 8; ++i) {
    const unsigned input = (lowest_ + i) & 7u;
    if (inputs & mask_of(input)) return static_cast<int>(input);
  }
  return -1;
}

int Pic8259::deliverable() const {
  if (expect_ != Expect::Nothing) return -1;
  const int request = highest(static_cast<std::uint8_t>(requests() & ~imr_));
  if (request < 0) return -1;
  std::uint8_t in_service = blocking();
  // Special fully nested mode: the slave may interrupt its own earlier interrupt.
  if (special_fully_nested_ && role_ == Role::Master)
    in_service = static_cast<std::uint8_t>(in_service & ~mask_of(cascade_input));
  const int serving = highest(in_service);
  if (serving >= 0 && rank(static_cast<unsigned>(request)) >= rank(static_cast<unsigned>(serving))) return -1;
  return request;
}

unsigned Pic8259::acknowledge() {
  const int request = deliverable();
  // INT falls with INTA even if another request waits, so that the master sees a new edge.
  intr_ = false;
  intr_out_.set(false);
  if (request < 0) {
    update();
    return spurious_input;
  }
  const auto input = static_cast<unsigned>(request);
  edge_latch_ = static_cast<std::uint8_t>(edge_latch_ & ~mask_of(input));
  isr_ |= mask_of(input);
  if (auto_eoi_) {
    end_of_interrupt(input);
    if (rotate_on_auto_eoi_) lowest_ = static_cast<std::uint8_t>(input);
  }
  update();
  return input;
}

void Pic8259::end_of_interrupt(unsigned input) { isr_ = static_cast<std::uint8_t>(isr_ & ~mask_of(input)); }

void Pic8259::update() {
  const bool intr = deliverable() >= 0;
  if (intr == intr_) return;
  intr_ = intr;
  intr_out_.set(intr);
}

std::uint8_t Pic8259::poll() {
  poll_ = false;
  if (deliverable() < 0) return 0;
  return static_cast<std::uint8_t>(0x80 | acknowledge());
}

std::uint8_t Pic8259::read_byte(unsigned offset) {
  if (poll_) return poll();
  if (offset & 1) return imr_;
  return read_isr_ ? isr_ : requests();
}

void Pic8259::write_byte(unsigned offset, std::uint8_t value) {
  if (offset & 1)
    write_odd_port(value);
  else if (value & ICW1)
    write_icw1(value);
  else if (value & OCW3)
    write_ocw3(value);
  else
    write_ocw2(value);
  update();
}

void Pic8259::write_icw1(std::uint8_t value) {
  edge_latch_ = 0;
  imr_ = 0;
  isr_ = 0;
  lowest_ = 7;
  special_mask_ = false;
  read_isr_ = false;
  poll_ = false;
  auto_eoi_ = false;
  rotate_on_auto_eoi_ = false;
  special_fully_nested_ = false;
  level_mode_ = (value & ICW1_LTIM) != 0;
  icw4_needed_ = (value & ICW1_IC4) != 0;
  single_ = (value & ICW1_SNGL) != 0;
  expect_ = Expect::Icw2;
}

void Pic8259::write_odd_port(std::uint8_t value) {
  const Expect after_icw3 = icw4_needed_ ? Expect::Icw4 : Expect::Nothing;
  switch (expect_) {
    case Expect::Nothing:
      imr_ = value;
      return;
    case Expect::Icw2:
      vector_base_ = value & 0xf8;
      expect_ = single_ ? after_icw3 : Expect::Icw3;
      return;
    case Expect::Icw3:
      icw3_ = value;
      expect_ = after_icw3;
      return;
    case Expect::Icw4:
      auto_eoi_ = (value & ICW4_AEOI) != 0;
      special_fully_nested_ = (value & ICW4_SFNM) != 0;
      expect_ = Expect::Nothing;
      return;
  }
}

void Pic8259::write_ocw2(std::uint8_t value) {
  const unsigned level = value & 7u;
  const int serving = highest(blocking());
  switch (static_cast<Ocw2>(value >> 5)) {
    case Ocw2::ClearRotateOnAutoEoi:
      rotate_on_auto_eoi_ = false;
      return;
    case Ocw2::SetRotateOnAutoEoi:
      rotate_on_auto_eoi_ = true;
      return;
    case Ocw2::NonSpecificEoi:
      if (serving >= 0) end_of_interrupt(static_cast<unsigned>(serving));
      return;
    case Ocw2::RotateOnNonSpecificEoi:
      if (serving < 0) return;
      end_of_interrupt(static_cast<unsigned>(serving));
      lowest_ = static_cast<std::uint8_t>(serving);
      return;
    case Ocw2::SpecificEoi:
      end_of_interrupt(level);
      return;
    case Ocw2::RotateOnSpecificEoi:
      end_of_interrupt(level);
      lowest_ = static_cast<std::uint8_t>(level);
      return;
    case Ocw2::SetPriority:
      lowest_ = static_cast<std::uint8_t>(level);
      return;
    case Ocw2::Nothing:
      return;
  }
}

void Pic8259::write_ocw3(std::uint8_t value) {
  if (value & OCW3_ESMM) special_mask_ = (value & OCW3_SMM) != 0;
  if (value & OCW3_P)
    poll_ = true;
  else if (value & OCW3_RR)
    read_isr_ = (value & OCW3_RIS) != 0;
}

void Pic8259::reset() {
  edge_latch_ = isr_ = vector_base_ = icw3_ = 0;
  imr_ = 0xff;
  lowest_ = 7;
  expect_ = Expect::Nothing;
  icw4_needed_ = single_ = level_mode_ = auto_eoi_ = rotate_on_auto_eoi_ = false;
  special_fully_nested_ = special_mask_ = read_isr_ = poll_ = false;
  update();
}

void Pic8259::save(machine::SnapshotWriter& out) const {
  out.section("pic8259");
  for (const std::uint8_t value : {lines_, edge_latch_, isr_, imr_, vector_base_, icw3_, lowest_}) out.put(value);
  out.put(expect_);
  for (const bool flag : {icw4_needed_, single_, level_mode_, auto_eoi_, rotate_on_auto_eoi_, special_fully_nested_,
                          special_mask_, read_isr_, poll_, intr_})
    out.put(static_cast<std::uint8_t>(flag));
}

void Pic8259::restore(machine::SnapshotReader& in) {
  in.section("pic8259");
  for (std::uint8_t* value : {&lines_, &edge_latch_, &isr_, &imr_, &vector_base_, &icw3_, &lowest_}) in.get(*value);
  const auto expect = in.get<std::uint8_t>();
  for (bool* flag : {&icw4_needed_, &single_, &level_mode_, &auto_eoi_, &rotate_on_auto_eoi_, &special_fully_nested_,
                     &special_mask_, &read_isr_, &poll_, &intr_})
    *flag = in.get<std::uint8_t>() != 0;
  if (expect > static_cast<std::uint8_t>(Expect::Icw4) || lowest_ > 7) in.fail();
  if (!in.ok()) {
    reset();
    return;
  }
  expect_ = static_cast<Expect>(expect);
  intr_out_.set(intr_);  // a receiver that is restored already sees no change
}

// --- the pair ---

Pic8259Pair::Pic8259Pair(machine::IrqLine& intr_out)
    : master_(Pic8259::Role::Master, intr_out), slave_(Pic8259::Role::Slave, cascade_), elcr_(*this) {
  cascade_.chip = &master_;
  cascade_.number = cascade_input;
  for (unsigned irq = 0; irq < inputs_.size(); ++irq) {
    if (irq == cascade_input) continue;
    inputs_[irq].chip = irq < 8 ? &master_ : &slave_;
    inputs_[irq].number = irq & 7u;
  }
}

std::uint8_t Pic8259Pair::acknowledge() {
  const unsigned input = master_.acknowledge();
  if (input != cascade_input) return static_cast<std::uint8_t>(master_.vector_base() | input);
  return static_cast<std::uint8_t>(slave_.vector_base() | slave_.acknowledge());
}

std::uint8_t Pic8259Pair::Elcr::read_byte(unsigned offset) {
  return offset == 0 ? pair.master_.edge_level() : pair.slave_.edge_level();
}

void Pic8259Pair::Elcr::write_byte(unsigned offset, std::uint8_t value) {
  if (offset == 0)
    pair.master_.set_edge_level(value & 0xf8);
  else
    pair.slave_.set_edge_level(value & 0xde);
}

void Pic8259Pair::Elcr::save(machine::SnapshotWriter& out) const {
  out.section("elcr");
  out.put(pair.master_.edge_level());
  out.put(pair.slave_.edge_level());
}

void Pic8259Pair::Elcr::restore(machine::SnapshotReader& in) {
  in.section("elcr");
  write_byte(0, in.get<std::uint8_t>());
  write_byte(1, in.get<std::uint8_t>());
}

void Pic8259Pair::Elcr::reset() {
  pair.master_.set_edge_level(0);
  pair.slave_.set_edge_level(0);
}

}  // namespace veneer::devices
