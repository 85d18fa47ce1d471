// Registers of a port, resets, and the FISes that come from the drive.
#include "devices/ahci/ahci_port.h"

#include <algorithm>
#include <array>
#include <utility>

namespace veneer::devices {

using namespace ahci;
using namespace ata;

namespace {

constexpr std::uint64_t list_alignment = 1024, fis_alignment = 256;
constexpr std::uint32_t CMD_WRITABLE = CMD_ST | CMD_FRE | CMD_ATAPI | CMD_DLAE;

void put_half(std::uint64_t& field, bool high, std::uint32_t value, std::uint64_t alignment) {
  field = high ? (field & 0xffff'ffff) | std::uint64_t{value} << 32 : (field & ~std::uint64_t{0xffff'ffff}) | value;
  field &= ~(alignment - 1);
}

}  // namespace

/// PCS and PRCS show what PxSERR has (3.3.5).
std::uint32_t AhciPort::pending() const {
  return is_ | ((serr_ & SERR_X) ? IS_PCS : 0) | ((serr_ & SERR_N) ? IS_PRCS : 0);
}

std::uint32_t AhciPort::read(std::uint32_t offset) const {
  switch (offset) {
    case PxCLB:
      return static_cast<std::uint32_t>(clb_);
    case PxCLBU:
      return static_cast<std::uint32_t>(clb_ >> 32);
    case PxFB:
      return static_cast<std::uint32_t>(fb_);
    case PxFBU:
      return static_cast<std::uint32_t>(fb_ >> 32);
    case PxIS:
      return pending();
    case PxIE:
      return ie_;
    case PxCMD:
      return cmd_ | CMD_SUD | CMD_POD | ((cmd_ & CMD_FRE) ? CMD_FR : 0) | ((cmd_ & CMD_ST) ? CMD_CR : 0) |
             std::uint32_t{slot_} << CMD_CCS_SHIFT;
    case PxTFD:
      return status_ | std::uint32_t{error_} << 8;
    case PxSIG:
      return sig_;
    case PxSSTS:
      if ((sctl_ & SCTL_DET) == DET_OFFLINE) return DET_OFFLINE;
      return present() && (sctl_ & SCTL_DET) == DET_NONE ? SSTS_CONNECTED : 0;
    case PxSCTL:
      return sctl_;
    case PxSERR:
      return serr_;
    case PxSACT:
      return sact_;
    case PxCI:
      return ci_;
    default:
      return 0;
  }
}

void AhciPort::write(std::uint32_t offset, std::uint32_t value) {
  switch (offset) {
    case PxCLB:
    case PxCLBU:
      return put_half(clb_, offset == PxCLBU, value, list_alignment);
    case PxFB:
    case PxFBU:
      return put_half(fb_, offset == PxFBU, value, fis_alignment);
    case PxIS:
      is_ &= ~value;
      return host_.port_changed();
    case PxIE:
      ie_ = value & IE_BITS;
      return host_.port_changed();
    case PxCMD:
      return write_command(value);
    case PxSCTL:
      return write_control(value);
    case PxSERR:
      serr_ &= ~value;
      return host_.port_changed();
    case PxSACT:  // set by writing ones, while ST is set (3.3.13)
      if (cmd_ & CMD_ST) sact_ |= value;
      return;
    case PxCI:
      if (!(cmd_ & CMD_ST)) return;
      ci_ |= value;
      return run();
    default:
      return;
  }
}

void AhciPort::write_command(std::uint32_t value) {
  const std::uint32_t before = std::exchange(cmd_, value & CMD_WRITABLE);
  if ((value & CMD_CLO) && !(before & CMD_ST)) status_ = static_cast<std::uint8_t>(status_ & ~(BSY | DRQ));
  if (!(before & CMD_FRE) && (value & CMD_FRE) && std::exchange(signature_waits_, false)) show_signature();
  if ((before & CMD_ST) && !(value & CMD_ST)) abandon();
  if (!(before & CMD_ST) && (value & CMD_ST)) {
    slot_ = 0;
    run();
  }
}

/// COMRESET begins with DET 1 and ends with 0 (3.3.11, 10.4.2).
void AhciPort::write_control(std::uint32_t value) {
  const std::uint32_t before = std::exchange(sctl_, value & SCTL_BITS) & SCTL_DET;
  const std::uint32_t now = sctl_ & SCTL_DET;
  if (before == now || !present()) return;
  if (now != DET_NONE) {
    abandon();
    status_ = 0x7f;
    serr_ |= SERR_N;
  } else {
    connect();
    run();  // what was issued while there was no link
  }
  host_.port_changed();
}

/// The drive says hello after a reset of the link.
void AhciPort::connect() {
  serr_ |= SERR_N | SERR_X;
  software_reset_ = false;
  drive_.soft_reset();
  show_signature();
}

void AhciPort::show_signature() {
  TaskFile registers;
  drive_.set_signature(registers);
  status_ = drive_.status_after_reset();
  error_ = 1;  // diagnostic code: passed
  sig_ = registers.count[0] | std::uint32_t{registers.low[0]} << 8 | std::uint32_t{registers.mid[0]} << 16 |
         std::uint32_t{registers.high[0]} << 24;
  signature_waits_ = !(cmd_ & CMD_FRE);
  post_d2h(registers, false);
}

/// All commands are dropped (3.3.7, ST): none of them touches memory any more.
void AhciPort::abandon() {
  ++generation_;
  if (!active_.empty()) drive_.backend().cancel();
  if (status_ != 0x7f) status_ = static_cast<std::uint8_t>(status_ & ~(BSY | DRQ));
  ci_ = sact_ = 0;
  slot_ = 0;
  halted_ = false;
}

void AhciPort::bus_error(std::uint32_t cause) {
  is_ |= cause;
  halted_ = true;
  host_.port_changed();
}

// ---- Received FISes -----------------------------------------------------------------------------------------------

bool AhciPort::post(std::uint64_t offset, std::span<const std::uint8_t> fis) {
  if (!(cmd_ & CMD_FRE) || !host_.may_use_memory()) return true;  // it stays in the adapter
  if (memory_.write(GuestPhys{fb_ + offset}, std::as_bytes(fis))) return true;
  bus_error(IS_HBFS);
  return false;
}

void AhciPort::post_d2h(const TaskFile& r, bool interrupt) {
  const std::array<std::uint8_t, 20> fis = {FIS_D2H,    interrupt ? FIS_INTERRUPT : std::uint8_t{0},
                                            status_,    error_,
                                            r.low[0],   r.mid[0],
                                            r.high[0],  r.device,
                                            r.low[1],   r.mid[1],
                                            r.high[1],  0,
                                            r.count[0], r.count[1]};
  if (post(RX_D2H_REGISTER, fis) && interrupt) is_ |= IS_DHRS;
}

void AhciPort::post_pio_setup(const Active& active) {
  const TaskFile& r = active.registers;
  std::array<std::uint8_t, 20> fis = {FIS_PIO_SETUP,
                                      FIS_INTERRUPT | FIS_TO_HOST,
                                      static_cast<std::uint8_t>(DRDY | DSC | DRQ),
                                      error_,
                                      r.low[0],
                                      r.mid[0],
                                      r.high[0],
                                      r.device,
                                      r.low[1],
                                      r.mid[1],
                                      r.high[1],
                                      0,
                                      r.count[0],
                                      r.count[1]};
  fis[15] = status_;  // what the status is after the data
  fis[16] = static_cast<std::uint8_t>(active.moved_bytes);
  fis[17] = static_cast<std::uint8_t>(active.moved_bytes >> 8);
  if (post(RX_PIO_SETUP, fis)) is_ |= IS_PSS;
}

void AhciPort::post_set_device_bits(std::uint32_t done) {
  const std::array<std::uint8_t, 8> fis = {FIS_SET_DEVICE_BITS,
                                           FIS_INTERRUPT,
                                           static_cast<std::uint8_t>(status_ & 0x77),
                                           error_,
                                           static_cast<std::uint8_t>(done),
                                           static_cast<std::uint8_t>(done >> 8),
                                           static_cast<std::uint8_t>(done >> 16),
                                           static_cast<std::uint8_t>(done >> 24)};
  if (post(RX_SET_DEVICE_BITS, fis)) is_ |= IS_SDBS;
}

// ---- State --------------------------------------------------------------------------------------------------------

void AhciPort::reset() {
  cmd_ = 0;
  abandon();
  drive_.reset();
  clb_ = fb_ = 0;
  is_ = ie_ = sctl_ = serr_ = 0;
  sig_ = SIG_NONE;
  status_ = 0x7f;
  error_ = 0;
  software_reset_ = signature_waits_ = false;
  if (present()) connect();
}

/// Commands in hand are those that an error of the host has stopped: they are saved as if they had not been issued.
void AhciPort::save(machine::SnapshotWriter& out) const {
  if (!active_.empty()) drive_.backend().settle();
  std::uint32_t issued = ci_;
  std::uint8_t status = status_;
  for (const Active& active : active_) {
    if (active.generation != generation_) continue;
    issued |= 1u << active.slot;
    if (!active.queued) status = static_cast<std::uint8_t>(status & ~BSY);
  }
  out.section("ahci-port");
  for (const std::uint64_t value : {clb_, fb_}) out.put(value);
  for (const std::uint32_t value : {is_, ie_, cmd_, sig_, sctl_, serr_, sact_, issued}) out.put(value);
  for (const std::uint8_t value :
       {status, error_, slot_, std::uint8_t{halted_}, std::uint8_t{software_reset_}, std::uint8_t{signature_waits_}})
    out.put(value);
  drive_.save(out);
}

void AhciPort::restore(machine::SnapshotReader& in) {
  abandon();
  in.section("ahci-port");
  for (std::uint64_t* value : {&clb_, &fb_}) in.get(*value);
  for (std::uint32_t* value : {&is_, &ie_, &cmd_, &sig_, &sctl_, &serr_, &sact_, &ci_}) in.get(*value);
  for (std::uint8_t* value : {&status_, &error_, &slot_}) in.get(*value);
  for (bool* value : {&halted_, &software_reset_, &signature_waits_}) *value = in.get<std::uint8_t>() != 0;
  drive_.restore(in);
  clb_ &= ~(list_alignment - 1);
  fb_ &= ~(fis_alignment - 1);
  ie_ &= IE_BITS;
  cmd_ &= CMD_WRITABLE;
  sctl_ &= SCTL_BITS;
  slot_ &= 31;
  if (!(cmd_ & CMD_ST)) ci_ = sact_ = 0;
}

}  // namespace veneer::devices
