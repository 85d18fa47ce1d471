// The ISA bridge of the PIIX3 and the power management function of the PIIX4, as configuration space.
//
// State: configuration space, interrupt lines.
// Missing: the SMBus host controller (its base is stored), MIRQ, X-bus and DMA settings (stored), S1 to S4.
// Differs from the spec: SMI generation reads as switched on, so that firmware does not set up SMM, which is not here.
// Spec: Intel 82371SB (PIIX3) data sheet 290550, chapter 2.2; 82371AB (PIIX4) data sheet 290562, chapter 7.1.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>

#include "devices/pci/pci_function.h"
#include "machine/irq_line.h"

namespace veneer::devices {

/// Function 0: routes PIRQA# to PIRQD# to ISA interrupts.
class Piix3IsaBridge final : public PciFunction {
 public:
  /// One wire for each ISA interrupt; null where none may go. They outlive the bridge.
  using IsaLines = std::array<machine::IrqLine*, 16>;
  explicit Piix3IsaBridge(const IsaLines& lines);

  /// Level of PIRQ `index` (0: PIRQA#), as asserted or not.
  void set_pirq(unsigned index, bool asserted);

  void write_config(unsigned offset, unsigned size_bytes, std::uint32_t value) override;
  void save(machine::SnapshotWriter& out) const override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 private:
  enum Register : unsigned { XBCS = 0x4e, PIRQRCA = 0x60, PIRQ_COUNT = 4, TOM = 0x69, DLC = 0x82 };
  void update();
  IsaLines lines_;
  std::array<bool, PIRQ_COUNT> asserted_{};
  std::uint16_t driven_ = 0;  // ISA lines that are high because of us
};

/// Function 3: where the power management registers are.
class Piix4PowerManagement final : public PciFunction {
 public:
  /// `move` is told the first port of the registers, or nothing when they are switched off.
  explicit Piix4PowerManagement(std::function<void(std::optional<std::uint16_t> base)> move);

  /// As firmware does it: registers at `base`.
  void enable(std::uint16_t base);
  std::optional<std::uint16_t> base() const;

  void write_config(unsigned offset, unsigned size_bytes, std::uint32_t value) override;
  void restore(machine::SnapshotReader& in) override;
  void reset() override;

 private:
  enum Register : unsigned { PMBA = 0x40, DEVACTB = 0x58, PMREGMISC = 0x80, SMBBA = 0x90, SMBHSTCFG = 0xd2 };
  void update();
  std::function<void(std::optional<std::uint16_t>)> move_;
  std::optional<std::uint16_t> told_;
};

}  // namespace veneer::devices
