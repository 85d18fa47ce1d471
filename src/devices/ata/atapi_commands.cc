// Packets of a CD-ROM drive (MMC-3, SPC-2).
#include <algorithm>
#include <array>
#include <cstring>

#include "devices/ata/ata_drive.h"

namespace veneer::devices {

using namespace ata;

namespace {

enum Operation : std::uint8_t {
  TEST_UNIT_READY = 0x00,
  REQUEST_SENSE = 0x03,
  INQUIRY = 0x12,
  MODE_SENSE_6 = 0x1a,
  START_STOP = 0x1b,
  PREVENT_REMOVAL = 0x1e,
  READ_CAPACITY = 0x25,
  READ_10 = 0x28,
  SEEK = 0x2b,
  READ_TOC = 0x43,
  GET_CONFIGURATION = 0x46,
  GET_EVENT_STATUS = 0x4a,
  READ_DISC_INFORMATION = 0x51,
  MODE_SENSE_10 = 0x5a,
  READ_12 = 0xa8,
  SET_SPEED = 0xbb,
  MECHANISM_STATUS = 0xbd,
};

// Additional sense codes
constexpr std::uint8_t INVALID_COMMAND = 0x20, OUT_OF_RANGE = 0x21, INVALID_FIELD = 0x24;

std::uint16_t be16(const std::uint8_t* at) { return static_cast<std::uint16_t>(at[0] << 8 | at[1]); }
std::uint32_t be32(const std::uint8_t* at) { return std::uint32_t{be16(at)} << 16 | be16(at + 2); }
void put32(std::uint8_t* at, std::uint32_t value) {
  for (unsigned i = 0; i < 4; ++i) at[i] = static_cast<std::uint8_t>(value >> (24 - 8 * i));
}

}  // namespace

AtaAction AtaDrive::packet_failure(std::uint8_t key, std::uint8_t code) {
  sense_key_ = key;
  sense_code_ = code;
  return {.kind = AtaAction::Kind::Failed, .error = static_cast<std::uint8_t>(key << 4 | ABRT)};
}

/// Data that is not on the disc, cut where the command says.
AtaAction AtaDrive::reply(std::span<const std::uint8_t> data, std::size_t limit) {
  const std::size_t size = std::min(data.size(), limit);
  if (size == 0) return {};
  std::memcpy(reply_.data(), data.data(), size);
  return {.kind = AtaAction::Kind::Reply, .reply = std::span(reply_).first(size)};
}

AtaAction AtaDrive::read_disc(std::uint64_t sector, std::uint64_t count) {
  if (sector > disc_sectors() || count > disc_sectors() - sector)
    return packet_failure(SENSE_ILLEGAL_REQUEST, OUT_OF_RANGE);
  if (count == 0) return {};
  return {.kind = AtaAction::Kind::Read, .offset = sector * cd_sector_bytes, .bytes = count * cd_sector_bytes};
}

AtaAction AtaDrive::packet(std::span<const std::uint8_t, packet_bytes> p) {
  switch (p[0]) {
    case TEST_UNIT_READY:
    case START_STOP:
    case PREVENT_REMOVAL:
    case SEEK:
    case SET_SPEED:
      return {};
    case REQUEST_SENSE: {
      std::array<std::uint8_t, 18> sense{0x70, 0, sense_key_, 0, 0, 0, 0, 10};
      sense[12] = sense_code_;
      sense_key_ = sense_code_ = 0;
      return reply(sense, p[4]);
    }
    case INQUIRY: {
      std::array<std::uint8_t, 36> inquiry{5, 0x80, 0, 0x21, 31};  // CD-ROM, removable, ATAPI
      std::memcpy(&inquiry[8], "VENEER  CD-ROM          1.0 ", 28);
      return reply(inquiry, p[4]);
    }
    case READ_CAPACITY: {
      std::array<std::uint8_t, 8> capacity{};
      put32(&capacity[0], static_cast<std::uint32_t>(std::max<std::uint64_t>(disc_sectors(), 1) - 1));
      put32(&capacity[4], cd_sector_bytes);
      return reply(capacity, capacity.size());
    }
    case READ_10:
      return read_disc(be32(&p[2]), be16(&p[7]));
    case READ_12:
      return read_disc(be32(&p[2]), be32(&p[6]));
    case READ_TOC:
      return read_toc(p);
    case MODE_SENSE_6:
      return mode_sense(p[2] & 0x3f, 4, p[4]);
    case MODE_SENSE_10:
      return mode_sense(p[2] & 0x3f, 8, be16(&p[7]));
    case GET_CONFIGURATION: {
      std::array<std::uint8_t, 8> header{0, 0, 0, 4, 0, 0, 0, 8};  // current profile: CD-ROM
      return reply(header, be16(&p[7]));
    }
    case GET_EVENT_STATUS: {
      if (!(p[1] & 1)) return packet_failure(SENSE_ILLEGAL_REQUEST, INVALID_FIELD);  // polled only
      const std::array<std::uint8_t, 8> media{0, 6, 4, 0x10, 0, 2, 0, 0};            // no event; a disc is in
      const std::array<std::uint8_t, 4> none{0, 2, 0x80, 0x10};
      if (p[4] & 0x10) return reply(media, be16(&p[7]));
      return reply(none, be16(&p[7]));
    }
    case READ_DISC_INFORMATION: {
      std::array<std::uint8_t, 34> disc{0, 32, 0x0e, 1, 1, 1, 1};  // complete, one session, one track
      return reply(disc, be16(&p[7]));
    }
    case MECHANISM_STATUS: {
      const std::array<std::uint8_t, 8> status{0, 0, 0, 0, 0, 1};
      return reply(status, be16(&p[8]));
    }
    default:
      return packet_failure(SENSE_ILLEGAL_REQUEST, INVALID_COMMAND);
  }
}

/// One data track and the lead-out.
AtaAction AtaDrive::read_toc(std::span<const std::uint8_t, packet_bytes> p) {
  const bool msf = (p[1] & 2) != 0;
  unsigned format = p[2] & 0xfu;
  if (format == 0) format = p[9] >> 6;  // where older software puts it
  const std::size_t limit = be16(&p[7]);
  const auto address = [msf](std::uint8_t* at, std::uint64_t sector) {
    if (!msf) return put32(at, static_cast<std::uint32_t>(sector));
    const std::uint64_t frame = sector + 150;
    at[1] = static_cast<std::uint8_t>(frame / 75 / 60);
    at[2] = static_cast<std::uint8_t>(frame / 75 % 60);
    at[3] = static_cast<std::uint8_t>(frame % 75);
  };
  if (format == 0) {
    std::array<std::uint8_t, 20> toc{0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x16, 0xaa};
    address(&toc[8], 0);
    address(&toc[16], disc_sectors());
    return reply(toc, limit);
  }
  if (format == 1) {  // sessions: one
    std::array<std::uint8_t, 12> sessions{0, 10, 1, 1, 0, 0x14, 1};
    address(&sessions[8], 0);
    return reply(sessions, limit);
  }
  return packet_failure(SENSE_ILLEGAL_REQUEST, INVALID_FIELD);
}

/// Header, and the page of capabilities (MMC-3 6.3.11) or of error recovery.
AtaAction AtaDrive::mode_sense(unsigned page, unsigned header_bytes, std::size_t limit) {
  std::array<std::uint8_t, 64> data{};
  std::size_t end = header_bytes;
  const auto add = [&](std::span<const std::uint8_t> bytes) {
    std::copy(bytes.begin(), bytes.end(), data.begin() + static_cast<std::ptrdiff_t>(end));
    end += bytes.size();
  };
  const std::array<std::uint8_t, 8> recovery{0x01, 6, 0, 5};
  const std::array<std::uint8_t, 20> capabilities{0x2a, 18,   0x3b, 0, 0, 0x60, 0x29, 0,
                                                  0x02, 0xc2, 0,    2, 2, 0,    0x02, 0xc2};
  if (page == 0x01 || page == 0x3f) add(recovery);
  if (page == 0x2a || page == 0x3f) add(capabilities);
  if (end == header_bytes) return packet_failure(SENSE_ILLEGAL_REQUEST, INVALID_FIELD);
  if (header_bytes == 8) {
    data[1] = static_cast<std::uint8_t>(end - 2);
    data[2] = 0x01;  // a CD with data
  } else {
    data[0] = static_cast<std::uint8_t>(end - 1);
    data[1] = 0x01;
  }
  return reply(std::span(data).first(end), limit);
}

}  // namespace veneer::devices
