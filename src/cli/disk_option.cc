// Parsing --disk: one table row for each key.
#include "cli/disk_option.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/comma_list.h"
#include "cli/size.h"
#include "devices/virtio/virtio_blk.h"

namespace veneer::cli {
namespace {

constexpr std::size_t serial_characters_max = 20;

using vm::DiskConfig;

template <typename T>
struct Word {
  std::string_view name;
  T value;
};

template <typename T, std::size_t N>
Result<void> choose(T& target, std::string_view value, const std::array<Word<T>, N>& words) {
  std::vector<std::string_view> names;
  for (const Word<T>& word : words) {
    if (word.name == value) {
      target = word.value;
      return {};
    }
    names.push_back(word.name);
  }
  return Error(fmt::format("\"{}\" is none of {}", value, fmt::join(names, ", ")));
}

Result<void> number(std::uint64_t& target, std::string_view value, std::uint64_t low, std::uint64_t high) {
  std::uint64_t parsed = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), parsed);
  if (error != std::errc{} || end != value.data() + value.size() || parsed < low || parsed > high)
    return Error(fmt::format("\"{}\" is not a number from {} to {}", value, low, high));
  target = parsed;
  return {};
}

Result<void> set_format(DiskConfig& disk, std::string_view value) {
  TRY(disk.open.format, disk::parse_format(value));
  return {};
}

Result<void> set_interface(DiskConfig& disk, std::string_view value) {
  if (value == "scsi")
    return Error(fmt::format("\"{}\" is not in this version of Veneer: use virtio, nvme, ahci or ide", value));
  return choose(disk.interface, value,
                std::to_array<Word<vm::DiskInterface>>({{"virtio", vm::DiskInterface::Virtio},
                                                        {"nvme", vm::DiskInterface::Nvme},
                                                        {"ahci", vm::DiskInterface::Ahci},
                                                        {"ide", vm::DiskInterface::Ide}}));
}

Result<void> set_cache(DiskConfig& disk, std::string_view value) {
  return choose(disk.open.cache, value,
                std::to_array<Word<disk::CacheMode>>({{"writeback", disk::CacheMode::Writeback},
                                                      {"none", disk::CacheMode::None},
                                                      {"writethrough", disk::CacheMode::Writethrough}}));
}

Result<void> set_discard(DiskConfig& disk, std::string_view value) {
  return choose(disk.open.discard, value,
                std::to_array<Word<disk::DiscardPolicy>>(
                    {{"unmap", disk::DiscardPolicy::Unmap}, {"ignore", disk::DiscardPolicy::Ignore}}));
}

Result<void> set_engine(DiskConfig& disk, std::string_view value) {
  return choose(
      disk.engine, value,
      std::to_array<Word<disk::IoEngine>>({{"auto", disk::IoEngine::Auto}, {"threads", disk::IoEngine::Threads}}));
}

Result<void> set_queues(DiskConfig& disk, std::string_view value) {
  std::uint64_t queues = 0;
  TRY_VOID(number(queues, value, 1, devices::VirtioBlk::queues_max));
  disk.queues = static_cast<unsigned>(queues);
  return {};
}

Result<void> set_serial(DiskConfig& disk, std::string_view value) {
  if (value.empty() || value.size() > serial_characters_max ||
      !std::all_of(value.begin(), value.end(), [](char c) { return c > ' ' && c <= '~'; }))
    return Error(fmt::format("\"{}\" is not 1 to {} printable ASCII characters", value, serial_characters_max));
  disk.serial = value;
  return {};
}

Result<void> set_iops(DiskConfig& disk, std::string_view value) { return number(disk.iops, value, 1, 1'000'000'000); }

Result<void> set_bps(DiskConfig& disk, std::string_view value) {
  TRY(disk.bytes_per_second, parse_size(value));
  if (disk.bytes_per_second == 0) return Error("0 bytes a second would be no disk");
  return {};
}

constexpr auto policies = std::to_array<Word<disk::ErrorPolicy>>({{"report", disk::ErrorPolicy::Report},
                                                                  {"stop", disk::ErrorPolicy::Stop},
                                                                  {"enospc", disk::ErrorPolicy::StopIfNoSpace}});

Result<void> set_werror(DiskConfig& disk, std::string_view value) { return choose(disk.write_errors, value, policies); }

Result<void> set_rerror(DiskConfig& disk, std::string_view value) {
  return choose(disk.read_errors, value, std::to_array<Word<disk::ErrorPolicy>>({policies[0], policies[1]}));
}

struct Key {
  std::string_view name;
  Result<void> (*set)(DiskConfig&, std::string_view);
};
constexpr std::array<Key, 11> keys = {{{"format", set_format},
                                       {"if", set_interface},
                                       {"cache", set_cache},
                                       {"discard", set_discard},
                                       {"queues", set_queues},
                                       {"serial", set_serial},
                                       {"iops", set_iops},
                                       {"bps", set_bps},
                                       {"werror", set_werror},
                                       {"rerror", set_rerror},
                                       {"aio", set_engine}}};

/// "readonly", "readonly=on", "readonly=off".
Result<void> apply_switch(bool& target, std::string_view word, std::size_t equals) {
  if (equals != std::string_view::npos)
    return choose(target, word.substr(equals + 1), std::to_array<Word<bool>>({{"on", true}, {"off", false}}));
  target = true;
  return {};
}

Result<void> apply(DiskConfig& disk, const std::string& word) {
  const std::size_t equals = word.find('=');
  const std::string name = word.substr(0, equals);
  if (name == "readonly") return apply_switch(disk.open.read_only, word, equals);
  if (name == "snapshot") return apply_switch(disk.snapshot, word, equals);
  std::vector<std::string_view> names = {"readonly", "snapshot"};
  for (const Key& key : keys) {
    names.push_back(key.name);
    if (key.name != name) continue;
    if (equals == std::string::npos) return Error(fmt::format("{} needs a value: {}=...", name, name));
    Result<void> set = key.set(disk, std::string_view(word).substr(equals + 1));
    if (!set) return std::move(set).error().context(name);
    return {};
  }
  return Error(fmt::format("\"{}\" is not known here (known: {}; a comma in a file's name is written twice)", word,
                           fmt::join(names, ", ")));
}

}  // namespace

const char* const disk_option_help =
    R"(A disk (may be given several times): FILE, and behind it, with commas between:
format=raw|qcow2, if=virtio|nvme|ahci|ide, readonly, snapshot (changes are dropped), cache=writeback|none|writethrough, discard=unmap|ignore, queues=N,
serial=TEXT, iops=N, bps=SIZE, werror=enospc|stop|report, rerror=report|stop, aio=auto|threads)";

Result<DiskConfig> parse_cdrom(const std::string& text) {
  std::vector<std::string> words = {text};
  if (::access(text.c_str(), F_OK) != 0) words = split_at_commas(text);
  DiskConfig drive;
  drive.path = words.front();
  drive.interface = vm::DiskInterface::Ide;
  for (std::size_t i = 1; i < words.size(); ++i) {
    if (!words[i].starts_with("if="))
      return Error(
          fmt::format("\"{}\" is not known here (known: if; a comma in a file's name is written twice)", words[i]));
    TRY_VOID(choose(
        drive.interface, std::string_view(words[i]).substr(3),
        std::to_array<Word<vm::DiskInterface>>({{"ide", vm::DiskInterface::Ide}, {"ahci", vm::DiskInterface::Ahci}})));
  }
  drive.cdrom = true;
  drive.open.read_only = true;
  drive.open.format = disk::Format::Raw;
  return drive;
}

DiskConfig floppy_drive(std::string path) {
  DiskConfig drive;
  drive.path = std::move(path);
  drive.interface = vm::DiskInterface::Floppy;
  drive.open.read_only = ::access(drive.path.c_str(), F_OK) == 0 && ::access(drive.path.c_str(), W_OK) != 0;
  drive.open.format = disk::Format::Raw;
  return drive;
}

Result<DiskConfig> parse_disk(const std::string& text) {
  const std::vector<std::string> words = split_at_commas(text);
  DiskConfig disk;
  disk.path = words.front();
  if (disk.path.empty()) return Error(fmt::format("\"{}\" names no file", text));
  for (std::size_t i = 1; i < words.size(); ++i) TRY_VOID(apply(disk, words[i]));
  return disk;
}

}  // namespace veneer::cli
