// What `veneer disk ...` was asked to do.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "base/result.h"
#include "disk/image.h"
#include "disk/qcow2/check.h"
#include "disk/qcow2/header.h"

namespace veneer::cli {

enum class Preallocation : std::uint8_t { Off, Metadata, Full };

/// How a new image shall be; the qcow2 part means nothing for raw.
struct NewImage {
  disk::Format format = disk::Format::Qcow2;
  std::uint64_t cluster_bytes = 65536;
  std::uint32_t refcount_bits = 16;
  std::uint32_t version = 3;
  bool lazy_refcounts = false;
  disk::qcow2::Compression compression = disk::qcow2::Compression::Zlib;
};

struct DiskCreate {
  std::string image;
  std::optional<std::uint64_t> size_bytes;  ///< unset: as large as the backing file
  NewImage like;
  std::string backing;  ///< as it will stand in the image; empty: none
  std::optional<disk::Format> backing_format;
  Preallocation preallocation = Preallocation::Off;
};

struct DiskInfo {
  std::string image;
  std::optional<disk::Format> format;
  bool json = false;
  bool chain = false;
};

struct DiskCheck {
  std::string image;
  std::optional<disk::Format> format;
  disk::qcow2::Repair repair = disk::qcow2::Repair::None;
  bool json = false;
};

struct DiskConvert {
  std::string source, target;
  std::optional<disk::Format> source_format;
  NewImage like;
  bool compress = false;
  bool no_sync = false;
  bool replace = false;  ///< an existing target
  unsigned threads = 0;  ///< 0: twice as many as there are CPUs, eight at most
};

struct DiskResize {
  std::string image;
  std::optional<disk::Format> format;
  enum class Way : std::uint8_t { To, By, ByLess };
  Way way = Way::To;
  std::uint64_t bytes = 0;
  bool shrink = false;
};

struct DiskRebase {
  std::string image;
  std::string backing;  ///< empty: none any more
  std::optional<disk::Format> backing_format;
  bool only_name = false;
};

struct DiskCommit {
  std::string image;
  bool keep = false;  ///< do not empty the overlay
};

struct DiskSnapshot {
  enum class Action : std::uint8_t { List, Create, Apply, Delete };
  Action action = Action::List;
  std::string image;
  std::string name;
  bool json = false;
};

using DiskOptions =
    std::variant<DiskCreate, DiskInfo, DiskCheck, DiskConvert, DiskResize, DiskRebase, DiskCommit, DiskSnapshot>;

}  // namespace veneer::cli
