// Registers, interrupts, PHY and EEPROM of the 82540EM.
#include "devices/e1000/e1000.h"

#include <algorithm>
#include <utility>

#include "base/bits.h"

namespace veneer::devices {

using namespace e1000;

namespace {

constexpr std::uint64_t memory_bar_bytes = 0x2'0000;
constexpr std::uint64_t port_bar_bytes = 64;
constexpr std::uint64_t IOADDR = 0, IODATA = 4;
constexpr std::uint16_t EEPROM_SUM = 0xbaba;  // of all words (5.6.35)

constexpr PciIdentity identity = {0x8086, 0x100e, 3, 0x020000, 0x8086, 0x001e, 1};

/// Registers that keep what is written and do nothing else here, and their writable bits.
struct Plain {
  std::uint32_t offset, mask;
};
constexpr std::array<Plain, 36> plain = {{
    {CTRL_EXT, 0x00ff'fff3},
    {FCAL, ~0u},
    {FCAH, 0xffff},
    {FCT, 0xffff},
    {VET, 0xffff},
    {ITR, 0xffff},
    {FCTTV, 0xffff},
    {TXCW, ~0u},
    {TIPG, 0x3fff'ffff},
    {AIFS, 0xffff},
    {LEDCTL, ~0u},
    {PBA, 0xffff},
    {FCRTL, 0x8000'fff8},
    {FCRTH, 0xfff8},
    {RDBAL, ~0xfu},
    {RDBAH, ~0u},
    {RDLEN, 0xf'ff80},
    {RDH, 0xffff},
    {RDTR, 0xffff},
    {RXDCTL, ~0u},
    {RADV, 0xffff},
    {RSRPD, 0xfff},
    {TCTL, 0x03ff'fffa},
    {TDBAL, ~0xfu},
    {TDBAH, ~0u},
    {TDLEN, 0xf'ff80},
    {TDH, 0xffff},
    {TIDV, 0xffff},
    {TXDCTL, ~0u},
    {TADV, 0xffff},
    {TSPMT, ~0u},
    {RXCSUM, 0x3ff},
    {WUC, 0xf},
    {WUFC, 0xf'00ff},
    {SWSM, 3},
    {SW_FW_SYNC, ~0u},
}};

/// Tables of words.
bool in_table(std::uint32_t offset) {
  return (offset >= MTA && offset < MTA + 4 * MTA_WORDS) || (offset >= RAL0 && offset < RA_END) ||
         (offset >= VFTA && offset < VFTA + 4 * VFTA_WORDS);
}

}  // namespace

E1000::E1000(std::string name, const machine::DmaSpace& memory, net::CardPort& port, const net::MacAddress& mac)
    : PciFunction(std::move(name), identity), memory_(memory), port_(port) {
  add_bar(0, BarKind::Memory32, memory_bar_bytes, memory_bar_);
  add_bar(1, BarKind::Io, port_bar_bytes, port_bar_);
  // EEPROM (5.6): address, then what a driver may look at, and the checksum.
  for (unsigned i = 0; i < 3; ++i) eeprom_.set_word(i, static_cast<std::uint16_t>(mac[2 * i] | (mac[2 * i + 1] << 8)));
  const std::array<std::pair<unsigned, std::uint16_t>, 8> words = {{{0x03, 0x0420},
                                                                    {0x0a, 0x4408},
                                                                    {0x0b, identity.subsystem},
                                                                    {0x0c, identity.subsystem_vendor},
                                                                    {0x0d, identity.device},
                                                                    {0x0e, identity.vendor},
                                                                    {0x0f, 0x3040},
                                                                    {0x21, 0x7863}}};
  for (const auto& [index, value] : words) eeprom_.set_word(index, value);
  std::uint16_t sum = 0;
  for (unsigned i = 0; i < MicrowireEeprom::words - 1; ++i) sum = static_cast<std::uint16_t>(sum + eeprom_.word(i));
  eeprom_.set_word(MicrowireEeprom::words - 1, static_cast<std::uint16_t>(EEPROM_SUM - sum));
  reset_card();
  reset_phy();
}

void E1000::reset_card() {
  registers_.fill(0);
  at(CTRL) = CTRL_FD | CTRL_ASDE;
  at(EECD) = EECD_PRES;
  at(PBA) = 0x0010'0030;
  at(LEDCTL) = 0x0706'8302;
  at(TIPG) = 0x0060'200a;
  // The first receive address comes from the EEPROM (5.6.1).
  at(RAL0) = eeprom_.word(0) | (std::uint32_t{eeprom_.word(1)} << 16);
  at(RAL0 + 4) = eeprom_.word(2) | RAH_AV;
  context_ = {};
  packet_.clear();
  packet_broken_ = packet_segmented_ = false;
  packet_options_ = 0;
  eeprom_.drive(false, false, false);
  update_link_state();
  update_interrupt();
  port_.forget_waiting();
}

void E1000::reset_phy() {
  phy_.fill(0);
  phy_[PHY_CONTROL] = 0x1140;  // autonegotiation, full duplex, 1000 Mbit/s
  phy_[PHY_STATUS] = 0x7949;   // what it can; link and "complete" by update_link_state()
  phy_[PHY_ID1] = 0x0141;      // Marvell
  phy_[PHY_ID2] = 0x0c20;
  phy_[PHY_ADVERTISE] = 0x0de1;
  phy_[PHY_PARTNER] = 0x45e1;
  phy_[6] = 0x0001;
  phy_[PHY_1000T_CONTROL] = 0x0e00;
  phy_[PHY_1000T_STATUS] = 0x3c00;
  phy_[16] = 0x0360;
  phy_[20] = 0x0d60;
  update_link_state();
}

void E1000::update_link_state() {
  at(STATUS) = STATUS_FD | STATUS_SPEED_1000 | (link_up_ ? STATUS_LU : 0);
  constexpr std::uint16_t done_and_up = 0x0024, gigabit_full = 0xa800, link = 0x0400;
  phy_[PHY_STATUS] =
      static_cast<std::uint16_t>(link_up_ ? phy_[PHY_STATUS] | done_and_up : phy_[PHY_STATUS] & ~unsigned{done_and_up});
  phy_[PHY_SPECIFIC_STATUS] = static_cast<std::uint16_t>(gigabit_full | (link_up_ ? link : 0));
}

void E1000::set_link(bool up) {
  if (link_up_ == up) return;
  link_up_ = up;
  if (!up) port_.forget_waiting();
  update_link_state();
  raise(CAUSE_LSC);
  update_interrupt();
  port_.wake();
}

void E1000::reset() {
  PciFunction::reset();
  window_address_ = 0;
  reset_card();
  reset_phy();
}

void E1000::update_interrupt() { set_intx((at(ICR) & at(IMS)) != 0); }

void E1000::count(std::uint32_t low, std::uint64_t amount) {
  const std::uint64_t before = at(low) | (std::uint64_t{at(low + 4)} << 32);
  const std::uint64_t after = before + amount;
  at(low) = static_cast<std::uint32_t>(after);
  at(low + 4) = static_cast<std::uint32_t>(after >> 32);
}

// ---- Registers ------------------------------------------------------------------------------------------------------

std::uint64_t E1000::read_memory_bar(std::uint64_t offset, unsigned size_bytes) {
  std::uint64_t value = read_register(static_cast<std::uint32_t>(offset & ~std::uint64_t{3}));
  if (offset % 4 + size_bytes > 4)
    value |= std::uint64_t{read_register(static_cast<std::uint32_t>((offset & ~std::uint64_t{3}) + 4))} << 32;
  return (value >> (8 * (offset % 4))) & byte_mask(size_bytes);
}

/// 13.1: registers are written as whole dwords; anything else has no defined effect, so here it has none.
void E1000::write_memory_bar(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) {
  if (offset % 4 != 0 || size_bytes < 4) return;
  write_register(static_cast<std::uint32_t>(offset), static_cast<std::uint32_t>(value));
  if (size_bytes == 8) write_register(static_cast<std::uint32_t>(offset + 4), static_cast<std::uint32_t>(value >> 32));
}

std::uint64_t E1000::read_port_bar(std::uint64_t offset, unsigned size_bytes) {
  if (size_bytes != 4) return 0;
  if (offset == IOADDR) return window_address_;
  return offset == IODATA ? read_register(window_address_) : 0;
}

void E1000::write_port_bar(std::uint64_t offset, unsigned size_bytes, std::uint64_t value) {
  if (size_bytes != 4) return;
  if (offset == IOADDR) window_address_ = static_cast<std::uint32_t>(value) & 0x1'fffc;
  if (offset == IODATA) write_register(window_address_, static_cast<std::uint32_t>(value));
}

std::uint32_t E1000::read_register(std::uint32_t offset) {
  if (offset >= REGISTERS_END) return 0;
  switch (offset) {
    case ICR: {
      const std::uint32_t causes = std::exchange(at(ICR), 0u);  // reading takes them (13.4.17)
      update_interrupt();
      return causes;
    }
    case ICS:
    case IMC:
      return 0;
    case EECD:
      return (at(EECD) & ~EECD_DO) | (eeprom_.data_out() ? EECD_DO : 0);
    default:
      break;
  }
  if (offset >= STATISTICS && offset < STATISTICS_END) return std::exchange(at(offset), 0u);
  return at(offset);
}

void E1000::write_register(std::uint32_t offset, std::uint32_t value) {
  switch (offset) {
    case CTRL:
      return write_control(value);
    case EECD:
      at(EECD) = EECD_PRES | (value & EECD_WRITABLE) | ((value & EECD_REQ) ? EECD_GNT : 0);
      return eeprom_.drive((value & EECD_CS) != 0, (value & EECD_SK) != 0, (value & EECD_DI) != 0);
    case EERD:
      if (value & EERD_START)
        at(EERD) = (value & 0xff00) | EERD_DONE | (std::uint32_t{eeprom_.word(Bits<15, 8>::get(value) & 63)} << 16);
      return;
    case MDIC:
      return access_phy(value);
    case ICR:
      at(ICR) &= ~value;
      return update_interrupt();
    case ICS:
      raise(value & 0x1'ffff);
      return update_interrupt();
    case IMS:
      at(IMS) |= value & 0x1'ffff;
      return update_interrupt();
    case IMC:
      at(IMS) &= ~value;
      return update_interrupt();
    case RCTL:
      at(RCTL) = value & 0x0fff'ffff;
      return port_.wake();
    case RDT:
    case TDT:
      at(offset) = value & 0xffff;
      return port_.wake();
    default:
      break;
  }
  if (in_table(offset)) {
    at(offset) = value;
    return;
  }
  const auto found = std::find_if(plain.begin(), plain.end(), [&](const Plain& item) { return item.offset == offset; });
  if (found == plain.end()) return;
  at(offset) = value & found->mask;
  if (offset == TCTL) port_.wake();
}

void E1000::write_control(std::uint32_t value) {
  if (value & CTRL_RST) return reset_card();  // the PHY keeps its state (14.7)
  if (value & CTRL_PHY_RST) reset_phy();
  const std::uint32_t before = at(CTRL);
  at(CTRL) = value & ~(CTRL_RST | CTRL_PHY_RST);
  if ((value & CTRL_SLU) && !(before & CTRL_SLU) && link_up_) {
    raise(CAUSE_LSC);
    update_interrupt();
  }
}

/// MDI accesses are done at once (13.4.4).
void E1000::access_phy(std::uint32_t value) {
  const auto index = static_cast<unsigned>(Bits<20, 16>::get(value));
  const std::uint32_t operation = value & MDIC_OP_MASK;
  std::uint32_t answer = (value & ~(MDIC_E | 0xffffu)) | MDIC_R;
  if (Bits<25, 21>::get(value) != phy_address || (operation != MDIC_OP_READ && operation != MDIC_OP_WRITE)) {
    answer |= MDIC_E | (value & 0xffff);
  } else if (operation == MDIC_OP_READ) {
    answer |= phy_[index];
  } else {
    const auto data = static_cast<std::uint16_t>(value);
    answer |= data;
    constexpr std::uint16_t PHY_RESET = 0x8000, PHY_RESTART = 0x0200;
    if (index == PHY_CONTROL) {
      if (data & PHY_RESET) reset_phy();
      phy_[PHY_CONTROL] = static_cast<std::uint16_t>(data & ~(PHY_RESET | PHY_RESTART));  // both clear themselves
      if ((data & (PHY_RESET | PHY_RESTART)) && link_up_) raise(CAUSE_LSC);
    } else if (index == PHY_ADVERTISE || index == PHY_1000T_CONTROL || (index >= 16 && index != PHY_SPECIFIC_STATUS)) {
      phy_[index] = data;
    }
  }
  at(MDIC) = answer;
  if (value & MDIC_I) raise(CAUSE_MDAC);
  update_interrupt();
}

// ---- Saving ---------------------------------------------------------------------------------------------------------

void E1000::save(machine::SnapshotWriter& out) const {
  PciFunction::save(out);
  out.section("e1000");
  for (const std::uint32_t value : registers_) out.put(value);
  for (const std::uint16_t value : phy_) out.put(value);
  eeprom_.save(out);
  out.put(window_address_);
  out.put(static_cast<std::uint8_t>(link_up_));
  out.put(context_.ip_start);
  out.put(context_.ip_offset);
  out.put(context_.ip_end);
  out.put(context_.transport_start);
  out.put(context_.transport_offset);
  out.put(context_.transport_end);
  out.put(context_.segment_bytes);
  out.put(context_.header_bytes);
  out.put(context_.command);
  out.put(static_cast<std::uint8_t>(packet_broken_));
  out.put(static_cast<std::uint8_t>(packet_segmented_));
  out.put(packet_options_);
  out.put(static_cast<std::uint32_t>(packet_.size()));
  out.bytes(packet_);
}

void E1000::restore(machine::SnapshotReader& in) {
  PciFunction::restore(in);
  in.section("e1000");
  for (std::uint32_t& value : registers_) in.get(value);
  for (std::uint16_t& value : phy_) in.get(value);
  eeprom_.restore(in);
  window_address_ = in.get<std::uint32_t>() & 0x1'fffc;
  link_up_ = in.get<std::uint8_t>() != 0;
  in.get(context_.ip_start);
  in.get(context_.ip_offset);
  in.get(context_.ip_end);
  in.get(context_.transport_start);
  in.get(context_.transport_offset);
  in.get(context_.transport_end);
  in.get(context_.segment_bytes);
  in.get(context_.header_bytes);
  in.get(context_.command);
  packet_broken_ = in.get<std::uint8_t>() != 0;
  packet_segmented_ = in.get<std::uint8_t>() != 0;
  in.get(packet_options_);
  const auto size = in.get<std::uint32_t>();
  if (size > net::frame_bytes_max || !in.ok()) {
    in.fail();
    return reset();
  }
  packet_.resize(size);
  in.bytes(packet_);
  for (const std::uint32_t offset : {RDH, RDT, TDH, TDT}) at(offset) &= 0xffff;
  for (const std::uint32_t offset : {RDLEN, TDLEN}) at(offset) &= 0xf'ff80;
  update_interrupt();
  port_.forget_waiting();
  port_.wake();
}

}  // namespace veneer::devices
