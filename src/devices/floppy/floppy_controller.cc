// The floppy controller: registers, phases, and the commands that move no data.
#include "devices/floppy/floppy_controller.h"

#include <algorithm>
#include <utility>

#include "devices/floppy/floppy_defs.h"

namespace veneer::devices {

using namespace floppy;

namespace {

constexpr std::uint8_t DEFAULT_CONFIGURATION = 0x20;  // no FIFO, polling, no implied seek

/// Bytes of a command, itself included; 1 for those that are not known.
unsigned command_bytes(std::uint8_t command) {
  switch (command & 0x1f) {
    case READ_TRACK:
    case WRITE_DATA:
    case READ_DATA:
    case WRITE_DELETED:
    case READ_DELETED:
    case VERIFY:
      return 9;
    case FORMAT_TRACK:
      return 6;
    case CONFIGURE:
      return 4;
    case SPECIFY:
    case SEEK:
      return 3;
    case SENSE_DRIVE:
    case RECALIBRATE:
    case READ_ID:
    case PERPENDICULAR:
      return 2;
    default:
      return 1;
  }
}

}  // namespace

FloppyController::FloppyController(machine::IrqLine& irq6, IsaDma& dma) : irq_(irq6), dma_(dma) { reset(); }

void FloppyController::attach(unsigned index, disk::Backend& backend) {
  drives_[index].backend = &backend;
  drives_[index].format = floppy_format(backend.size_bytes());
}

void FloppyController::reset() {
  for (Drive& drive : drives_) {
    drive.track = 0;
    drive.changed = true;
  }
  digital_output_ = tape_ = perpendicular_ = step_rate_ = head_load_ = 0;
  rate_ = 2;
  locked_ = false;
  soft_reset();
  reset_senses_ = 0;
  interrupt(false);
}

/// Through the digital output or the data rate register (82077AA 4.0). What LOCK protects stays.
void FloppyController::soft_reset() {
  ++generation_;
  phase_ = Phase::Command;
  parameter_count_ = result_at_ = result_count_ = 0;
  seek_done_ = 0;
  seek_status_ = {};
  cylinder_ = head_ = record_ = 0;
  ends_ = false;
  ids_.clear();
  parameters_ = {};
  results_ = {};
  if (!locked_) {
    configuration_ = DEFAULT_CONFIGURATION;
    precompensation_ = 0;
  }
  perpendicular_ &= 0x3c;
}

void FloppyController::interrupt(bool level) {
  interrupt_ = level;
  irq_.set(interrupt_ && (digital_output_ & DMA_GATE));
}

// --- registers ---

std::uint8_t FloppyController::main_status() const {
  if (!(digital_output_ & NOT_RESET)) return 0;
  switch (phase_) {
    case Phase::Command:
      return RQM | (parameter_count_ ? CMD_BUSY : 0);
    case Phase::Execution:
      return CMD_BUSY;
    case Phase::Result:
      return RQM | DIO | CMD_BUSY;
  }
  return 0;
}

std::uint8_t FloppyController::digital_input() const {
  const Drive& drive = drives_[digital_output_ & 3];
  return drive.changed || drive.backend == nullptr ? DISK_CHANGE : 0;
}

std::uint8_t FloppyController::read_byte(unsigned offset) {
  switch (offset) {
    case DIGITAL_OUTPUT:
      return digital_output_;
    case TAPE:
      return tape_;
    case MAIN_STATUS:
      return main_status();
    case FIFO:
      return read_fifo();
    default:
      return 0xff;
  }
}

void FloppyController::write_byte(unsigned offset, std::uint8_t value) {
  switch (offset) {
    case DIGITAL_OUTPUT:
      return write_digital_output(value);
    case TAPE:
      tape_ = value & 3;
      return;
    case MAIN_STATUS:  // data rate select; bit 7 resets
      rate_ = value & 3;
      if (!(value & 0x80)) return;
      soft_reset();
      reset_senses_ = 4;
      return interrupt(true);
    case FIFO:
      return write_fifo(value);
    default:
      return;
  }
}

void FloppyController::write_digital_output(std::uint8_t value) {
  const std::uint8_t old = std::exchange(digital_output_, value);
  if (!(value & NOT_RESET)) {
    soft_reset();
    return interrupt(false);
  }
  if (!(old & NOT_RESET)) {
    reset_senses_ = 4;  // polling tells that all drives' ready lines have changed
    return interrupt(true);
  }
  interrupt(interrupt_);  // the gate may have changed
}

void FloppyController::write_fifo(std::uint8_t value) {
  if (!(digital_output_ & NOT_RESET) || phase_ != Phase::Command) return;
  parameters_[parameter_count_++] = value;
  if (parameter_count_ < command_bytes(parameters_[0])) return;
  parameter_count_ = 0;
  execute();
}

std::uint8_t FloppyController::read_fifo() {
  if (phase_ != Phase::Result) return 0;
  interrupt(false);
  const std::uint8_t value = results_[result_at_++];
  if (result_at_ == result_count_) {
    phase_ = Phase::Command;
    result_at_ = result_count_ = 0;
  }
  return value;
}

void FloppyController::finish(std::span<const std::uint8_t> result, bool with_interrupt) {
  std::copy(result.begin(), result.end(), results_.begin());
  result_at_ = 0;
  result_count_ = static_cast<std::uint8_t>(result.size());
  phase_ = result.empty() ? Phase::Command : Phase::Result;
  if (with_interrupt) interrupt(true);
}

// --- commands ---

FloppyController::Drive* FloppyController::drive_of(std::uint8_t select) {
  Drive& drive = drives_[select & 3];
  return drive.backend != nullptr ? &drive : nullptr;
}

/// There is a disk, and its marks are found at the chosen data rate.
bool FloppyController::readable(const Drive& drive) const {
  return drive.format != nullptr && drive.format->reads_at(static_cast<FloppyRate>(rate_)) &&
         drive.track < drive.format->tracks;
}

void FloppyController::execute() {
  const std::uint8_t select = parameters_[1];
  switch (opcode()) {
    case READ_TRACK:
    case WRITE_DATA:
    case READ_DATA:
    case WRITE_DELETED:
    case READ_DELETED:
    case VERIFY:
      return start_transfer();
    case FORMAT_TRACK:
      return start_format();
    case READ_ID:
      return read_id();
    case RECALIBRATE:
      return recalibrate();
    case SEEK: {
      const Drive& drive = drives_[select & 3];
      const int step = (parameters_[0] & 0x40) ? parameters_[2] : -parameters_[2];
      const int relative = std::clamp(drive.track + step, 0, 255);  // bit 7 of the command
      const unsigned track = (parameters_[0] & 0x80) ? static_cast<unsigned>(relative) : parameters_[2];
      return seek(select & 3, track, static_cast<std::uint8_t>(SEEK_DONE | (select & 7)));
    }
    case SENSE_INTERRUPT:
      return sense_interrupt();
    case SENSE_DRIVE: {
      const Drive* const drive = drive_of(select);
      std::uint8_t status = ALWAYS_READY | (select & 7);
      if (drives_[select & 3].track == 0) status |= TRACK_0;
      if (drive && drive->backend->read_only()) status |= WRITE_PROTECTED;
      return finish({status}, false);
    }
    case SPECIFY:
      step_rate_ = parameters_[1];
      head_load_ = parameters_[2];
      return finish({}, false);
    case DUMP_REGISTERS:
      return finish(
          {drives_[0].track, drives_[1].track, drives_[2].track, drives_[3].track, step_rate_, head_load_, record_,
           static_cast<std::uint8_t>((locked_ ? 0x80 : 0) | (perpendicular_ & 0x3f)), configuration_, precompensation_},
          false);
    case VERSION:
      return finish({0x90}, false);
    case PERPENDICULAR:
      // Drives' bits change only with OW set.
      perpendicular_ = static_cast<std::uint8_t>(
          (parameters_[1] & 3) | ((parameters_[1] & 0x80) ? parameters_[1] & 0x3c : perpendicular_ & 0x3c));
      return finish({}, false);
    case CONFIGURE:
      configuration_ = parameters_[2];
      precompensation_ = parameters_[3];
      return finish({}, false);
    case LOCK:
      locked_ = (parameters_[0] & 0x80) != 0;
      return finish({static_cast<std::uint8_t>(locked_ ? 0x10 : 0)}, false);
    default:
      return finish({INVALID}, false);
  }
}

void FloppyController::sense_interrupt() {
  interrupt(false);
  if (reset_senses_ > 0) {
    const auto drive = static_cast<std::uint8_t>(4 - reset_senses_--);
    return finish({static_cast<std::uint8_t>(READY_CHANGED | drive), drives_[drive].track}, false);
  }
  for (unsigned drive = 0; drive < drives_.size(); ++drive) {
    if (!(seek_done_ >> drive & 1)) continue;
    seek_done_ = static_cast<std::uint8_t>(seek_done_ & ~(1u << drive));
    finish({seek_status_[drive], drives_[drive].track}, false);
    return interrupt(seek_done_ != 0);
  }
  finish({INVALID}, false);
}

void FloppyController::seek(unsigned drive, unsigned track, std::uint8_t st0) {
  drives_[drive].track = static_cast<std::uint8_t>(track);
  if (drives_[drive].backend != nullptr) drives_[drive].changed = false;
  seek_done_ = static_cast<std::uint8_t>(seek_done_ | 1u << drive);
  seek_status_[drive] = st0;
  finish({}, true);
}

/// A drive that is not there never finds its track 0.
void FloppyController::recalibrate() {
  const unsigned drive = parameters_[1] & 3;
  const bool there = drives_[drive].backend != nullptr;
  seek(drive, 0, static_cast<std::uint8_t>(SEEK_DONE | drive | (there ? 0 : ABNORMAL | EQUIPMENT_CHECK)));
}

void FloppyController::read_id() {
  const Drive& drive = drives_[parameters_[1] & 3];
  head_ = parameters_[1] >> 2 & 1;
  cylinder_ = drive.track;
  record_ = 1;
  if (!readable(drive)) return finish_transfer(ABNORMAL, MISSING_ADDRESS_MARK, 0);
  finish_transfer(0, 0, 0);
}

// --- snapshots ---

void FloppyController::save(machine::SnapshotWriter& out) const {
  out.section("floppy");
  for (const Drive& drive : drives_) {
    out.put(drive.track);
    out.put(static_cast<std::uint8_t>(drive.changed));
  }
  for (const std::uint8_t value :
       {digital_output_, rate_, tape_, step_rate_, head_load_, configuration_, precompensation_, perpendicular_,
        reset_senses_, seek_done_, parameter_count_, result_at_, result_count_, cylinder_, head_, record_})
    out.put(value);
  for (const bool flag : {locked_, interrupt_, ends_}) out.put(static_cast<std::uint8_t>(flag));
  out.put(phase_);
  out.put(seek_status_);
  out.put(parameters_);
  out.put(results_);
}

/// A command in the middle of its execution is not among what is saved: disks are settled before.
void FloppyController::restore(machine::SnapshotReader& in) {
  in.section("floppy");
  ++generation_;
  ids_.clear();
  for (Drive& drive : drives_) {
    in.get(drive.track);
    drive.changed = in.get<std::uint8_t>() != 0;
  }
  for (std::uint8_t* value :
       {&digital_output_, &rate_, &tape_, &step_rate_, &head_load_, &configuration_, &precompensation_, &perpendicular_,
        &reset_senses_, &seek_done_, &parameter_count_, &result_at_, &result_count_, &cylinder_, &head_, &record_})
    in.get(*value);
  for (bool* flag : {&locked_, &interrupt_, &ends_}) *flag = in.get<std::uint8_t>() != 0;
  in.get(phase_);
  in.get(seek_status_);
  in.get(parameters_);
  in.get(results_);
  rate_ &= 3;
  if (phase_ > Phase::Result || reset_senses_ > 4 || parameter_count_ >= parameters_.size() ||
      result_count_ > results_.size() || (phase_ == Phase::Result && result_at_ >= result_count_)) {
    in.fail();
    soft_reset();
    reset_senses_ = 0;
  }
  interrupt(interrupt_);
}

}  // namespace veneer::devices
