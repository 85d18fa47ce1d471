// A 16550A serial port.
#include "devices/legacy/uart16550.h"

#include <algorithm>

#include "base/log.h"

namespace veneer::devices {
namespace {

// Register offsets; some are different for reading, writing, and DLAB.
enum Offset : unsigned { RBR_THR_DLL = 0, IER_DLM = 1, IIR_FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7 };

// IER
constexpr std::uint8_t ERBFI = 0x01, ETBEI = 0x02, ELSI = 0x04, EDSSI = 0x08;
// IIR (PC16550D table V): none, or the source in bits 3-1
constexpr std::uint8_t IIR_NONE = 0x01, IIR_LINE_STATUS = 0x06, IIR_DATA = 0x04, IIR_TIMEOUT = 0x0c, IIR_THRE = 0x02,
                       IIR_MODEM = 0x00, IIR_FIFOS = 0xc0;
// FCR
constexpr std::uint8_t FCR_ENABLE = 0x01, FCR_CLEAR_RX = 0x02;
// LCR, MCR
constexpr std::uint8_t DLAB = 0x80;
constexpr std::uint8_t MCR_DTR = 0x01, MCR_RTS = 0x02, MCR_OUT1 = 0x04, MCR_OUT2 = 0x08;
// LSR
constexpr std::uint8_t LSR_DR = 0x01, LSR_OE = 0x02, LSR_THRE = 0x20, LSR_TEMT = 0x40;
// MSR
constexpr std::uint8_t MSR_TERI = 0x04, MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80;
constexpr std::uint8_t msr_deltas = 0x0f;

}  // namespace

// --- the host's side ---

std::size_t Uart16550::receive_room() const {
  // In loopback mode the receiver is disconnected from the wire: what the host has waits.
  if (loopback() || fifo_count_ >= capacity()) return 0;
  return capacity() - fifo_count_;
}

void Uart16550::receive(std::span<const std::uint8_t> data) {
  if (loopback()) return;
  for (const std::uint8_t value : data) push_received(value);
  update();
}

void Uart16550::push_received(std::uint8_t value) {
  if (fifo_count_ >= capacity()) {
    lsr_errors_ |= LSR_OE;
    // Without FIFO the new byte overwrites the old one; with it the shift register's byte is lost.
    if (!fifo_enabled()) fifo_[fifo_head_] = value;
    return;
  }
  fifo_[(fifo_head_ + fifo_count_) % fifo_bytes] = value;
  ++fifo_count_;
}

void Uart16550::clear_receiver() {
  const bool had_no_room = receive_room() == 0;
  fifo_head_ = fifo_count_ = 0;
  if (had_no_room && receive_room() > 0 && room_callback_) room_callback_();
}

// --- interrupts ---

std::size_t Uart16550::trigger_level() const {
  constexpr std::array<std::uint8_t, 4> levels = {1, 4, 8, 14};
  return fifo_enabled() ? levels[fcr_ >> 6] : 1;
}

std::uint8_t Uart16550::interrupt_identification() const {
  if ((ier_ & ELSI) && lsr_errors_) return IIR_LINE_STATUS;
  if ((ier_ & ERBFI) && fifo_count_ >= trigger_level()) return IIR_DATA;
  if ((ier_ & ERBFI) && fifo_count_ > 0) return IIR_TIMEOUT;
  if ((ier_ & ETBEI) && transmitter_empty_irq_) return IIR_THRE;
  if ((ier_ & EDSSI) && (msr_ & msr_deltas)) return IIR_MODEM;
  return IIR_NONE;
}

void Uart16550::update() {
  const bool gate = (mcr_ & MCR_OUT2) != 0 && !loopback();
  irq_.set(gate && interrupt_identification() != IIR_NONE);
}

std::uint8_t Uart16550::read_iir() {
  const std::uint8_t source = interrupt_identification();
  if (source == IIR_THRE) {
    transmitter_empty_irq_ = false;
    update();
  }
  return static_cast<std::uint8_t>(source | (fifo_enabled() ? IIR_FIFOS : 0));
}

// --- registers ---

std::uint8_t Uart16550::read_rbr() {
  if (fifo_count_ == 0) return 0;
  const bool had_no_room = receive_room() == 0;
  const std::uint8_t value = fifo_[fifo_head_];
  fifo_head_ = static_cast<std::uint8_t>((fifo_head_ + 1) % fifo_bytes);
  --fifo_count_;
  update();
  if (had_no_room && receive_room() > 0 && room_callback_) room_callback_();
  return value;
}

std::uint8_t Uart16550::read_lsr() {
  const std::uint8_t value =
      static_cast<std::uint8_t>(LSR_THRE | LSR_TEMT | lsr_errors_ | (fifo_count_ > 0 ? LSR_DR : 0));
  lsr_errors_ = 0;
  update();
  return value;
}

std::uint8_t Uart16550::read_msr() {
  const std::uint8_t value = msr_;
  msr_ = static_cast<std::uint8_t>(msr_ & ~msr_deltas);
  update();
  return value;
}

std::uint8_t Uart16550::read_byte(unsigned offset) {
  const bool dlab = (lcr_ & DLAB) != 0;
  switch (offset) {
    case RBR_THR_DLL:
      return dlab ? static_cast<std::uint8_t>(divisor_) : read_rbr();
    case IER_DLM:
      return dlab ? static_cast<std::uint8_t>(divisor_ >> 8) : ier_;
    case IIR_FCR:
      return read_iir();
    case LCR:
      return lcr_;
    case MCR:
      return mcr_;
    case LSR:
      return read_lsr();
    case MSR:
      return read_msr();
    case SCR:
      return scr_;
    default:
      return 0xff;
  }
}

void Uart16550::write_byte(unsigned offset, std::uint8_t value) {
  const bool dlab = (lcr_ & DLAB) != 0;
  switch (offset) {
    case RBR_THR_DLL:
      if (dlab)
        divisor_ = static_cast<std::uint16_t>((divisor_ & 0xff00) | value);
      else
        write_thr(value);
      return;
    case IER_DLM:
      if (dlab)
        divisor_ = static_cast<std::uint16_t>((divisor_ & 0x00ff) | (value << 8));
      else
        write_ier(value);
      return;
    case IIR_FCR:
      write_fcr(value);
      return;
    case LCR:
      lcr_ = value;
      return;
    case MCR:
      write_mcr(value);
      return;
    case SCR:
      scr_ = value;
      return;
    default:
      return;  // LSR and MSR are read-only
  }
}

void Uart16550::write_thr(std::uint8_t value) {
  if (loopback())
    push_received(value);
  else
    out_.write(std::span(&value, 1));
  transmitter_empty_irq_ = true;
  update();
}

void Uart16550::write_ier(std::uint8_t value) {
  value &= 0x0f;
  // Switching the interrupt on while the transmitter is empty raises it; Linux tests for chips that forget this.
  if ((value & ETBEI) && !(ier_ & ETBEI)) transmitter_empty_irq_ = true;
  ier_ = value;
  update();
}

void Uart16550::write_fcr(std::uint8_t value) {
  // PC16550D 8.4: changing FIFO mode clears the FIFOs, and the other bits count only while bit 0 is written as 1.
  const bool mode_changes = ((value ^ fcr_) & FCR_ENABLE) != 0;
  fcr_ = (value & FCR_ENABLE) ? static_cast<std::uint8_t>(value & 0xc9) : std::uint8_t{0};
  if (mode_changes || ((value & FCR_ENABLE) && (value & FCR_CLEAR_RX))) clear_receiver();
  update();
}

void Uart16550::write_mcr(std::uint8_t value) {
  const bool had_no_room = receive_room() == 0;
  mcr_ = value & 0x1f;
  set_modem_lines();
  update();
  if (had_no_room && receive_room() > 0 && room_callback_) room_callback_();
}

void Uart16550::set_modem_lines() {
  std::uint8_t lines = MSR_DCD | MSR_DSR | MSR_CTS;
  if (loopback()) {  // PC16550D 8.8: the outputs come back as inputs
    lines = static_cast<std::uint8_t>(((mcr_ & MCR_DTR) ? MSR_DSR : 0) | ((mcr_ & MCR_RTS) ? MSR_CTS : 0) |
                                      ((mcr_ & MCR_OUT1) ? MSR_RI : 0) | ((mcr_ & MCR_OUT2) ? MSR_DCD : 0));
  }
  const auto changed = static_cast<std::uint8_t>((lines ^ msr_) & 0xf0);
  auto deltas = static_cast<std::uint8_t>((changed >> 4) & ~MSR_TERI);
  if ((changed & MSR_RI) && !(lines & MSR_RI)) deltas |= MSR_TERI;
  msr_ = static_cast<std::uint8_t>(lines | (msr_ & msr_deltas) | deltas);
}

void Uart16550::reset() {
  const bool had_no_room = receive_room() == 0;
  fifo_head_ = fifo_count_ = 0;
  divisor_ = 0;
  ier_ = fcr_ = lcr_ = mcr_ = scr_ = 0;
  lsr_errors_ = 0;
  msr_ = MSR_DCD | MSR_DSR | MSR_CTS;
  transmitter_empty_irq_ = false;
  update();
  if (had_no_room && room_callback_) room_callback_();
}

void Uart16550::save(machine::SnapshotWriter& out) const {
  out.section("uart16550");
  out.put(fifo_count_);
  for (unsigned i = 0; i < fifo_count_; ++i) out.put(fifo_[(fifo_head_ + i) % fifo_bytes]);
  out.put(divisor_);
  for (const std::uint8_t value : {ier_, fcr_, lcr_, mcr_, scr_, lsr_errors_, msr_}) out.put(value);
  out.put(static_cast<std::uint8_t>(transmitter_empty_irq_));
}

void Uart16550::restore(machine::SnapshotReader& in) {
  in.section("uart16550");
  fifo_head_ = 0;
  in.get(fifo_count_);
  if (fifo_count_ > fifo_bytes) {
    in.fail();
    fifo_count_ = 0;
  }
  for (unsigned i = 0; i < fifo_count_; ++i) in.get(fifo_[i]);
  in.get(divisor_);
  for (std::uint8_t* value : {&ier_, &fcr_, &lcr_, &mcr_, &scr_, &lsr_errors_, &msr_}) in.get(*value);
  transmitter_empty_irq_ = in.get<std::uint8_t>() != 0;
  update();
}

}  // namespace veneer::devices
