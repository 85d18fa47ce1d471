// A FAT file system made from files in memory.
#include "image/fat.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "base/assert.h"
#include "image/fat_name.h"
#include "image/le.h"

namespace veneer::image {
namespace {

constexpr std::size_t sector = 512;
constexpr std::size_t entry = 32;
constexpr std::uint32_t fat16_clusters_min = 4085, fat32_clusters_min = 65525;  // "FAT Type Determination"
constexpr std::uint32_t date_1980_01_01 = 0x0021;

constexpr std::uint8_t ATTR_VOLUME_ID = 0x08;
constexpr std::uint8_t ATTR_DIRECTORY = 0x10;
constexpr std::uint8_t ATTR_ARCHIVE = 0x20;

struct ByName {
  bool operator()(const std::string& a, const std::string& b) const {  // names that differ in case only are one
    return std::lexicographical_compare(a.begin(), a.end(), b.begin(), b.end(),
                                        [](char x, char y) { return capital(x) < capital(y); });
  }
};

struct Node {
  std::string content;  // of a file; a folder's is made from its children
  bool folder = false;
  std::map<std::string, std::unique_ptr<Node>, ByName> children;
  std::uint32_t first_cluster = 0;
};

/// Sizes and places, in sectors.
struct Geometry {
  bool fat32 = false;
  std::uint32_t total = 0, reserved = 0, fat = 0, root = 0, per_cluster = 1, clusters = 0;
  std::uint32_t data() const { return reserved + 2 * fat + root; }
};

std::optional<Geometry> try_geometry(std::uint32_t total, bool fat32, std::uint32_t per_cluster) {
  Geometry g{.fat32 = fat32,
             .total = total,
             .reserved = fat32 ? 32u : 1u,
             .root = fat32 ? 0u : 32u,
             .per_cluster = per_cluster};
  // A little larger than needed: as if the FATs themselves took no room.
  const std::uint32_t most = (total - g.reserved - g.root) / per_cluster + 2;
  g.fat = static_cast<std::uint32_t>((std::uint64_t{most} * (fat32 ? 4 : 2) + sector - 1) / sector);
  if (g.data() >= total) return std::nullopt;
  g.clusters = (total - g.data()) / per_cluster;
  const bool fits = fat32 ? g.clusters >= fat32_clusters_min && g.clusters < 0x0ffffff5
                          : g.clusters >= fat16_clusters_min && g.clusters < fat32_clusters_min;
  return fits ? std::optional(g) : std::nullopt;
}

/// FAT32 from where it is allowed, as UEFI wants it for fixed disks; FAT16 below.
Result<Geometry> choose_geometry(std::uint64_t size_bytes) {
  if (size_bytes % sector == 0 && size_bytes <= 2ull << 30) {
    const auto total = static_cast<std::uint32_t>(size_bytes / sector);
    for (std::uint32_t per_cluster = 8; per_cluster > 0; per_cluster /= 2)
      if (const auto g = try_geometry(total, true, per_cluster)) return *g;
    for (std::uint32_t per_cluster = 8; per_cluster > 0 && total > 64; per_cluster /= 2)
      if (const auto g = try_geometry(total, false, per_cluster)) return *g;
  }
  return Error(fmt::format("no FAT file system of {} bytes can be made", size_bytes));
}

Result<void> insert(Node& root, const FatFile& file) {
  Node* at = &root;
  for (std::size_t begin = 0; begin <= file.path.size();) {
    const std::size_t end = std::min(file.path.find('/', begin), file.path.size());
    const std::string name = file.path.substr(begin, end - begin);
    if (!is_fat_name(name)) return Error(fmt::format("\"{}\" is no name for a file on FAT", file.path));
    const bool last = end == file.path.size();
    auto& child = at->children[name];
    if (child && (last || !child->folder)) return Error(fmt::format("two files would be called \"{}\"", file.path));
    if (!child) {
      child = std::make_unique<Node>();
      child->folder = !last;
      if (last) child->content = file.content;
    }
    at = child.get();
    begin = end + 1;
  }
  return {};
}

class Writer {
 public:
  Writer(const FatVolume& volume, const Geometry& geometry) : volume_(volume), g_(geometry) {
    fat_ = {g_.fat32 ? 0x0ffffff8u : 0xfff8u, end_of_chain()};
  }

  Result<std::vector<std::uint8_t>> write(Node& root) {
    root.folder = true;
    if (g_.fat32) TRY_VOID(allocate(root, folder_bytes(root, true)));
    root_ = &root;
    TRY_VOID(allocate_children(root));
    out_.resize(std::size_t{g_.data()} * sector + (fat_.size() - 2) * cluster_bytes());
    put_boot_sector();
    put_fats();
    put_folder(root, nullptr);
    return std::move(out_);
  }

 private:
  std::size_t cluster_bytes() const { return std::size_t{g_.per_cluster} * sector; }
  std::uint32_t end_of_chain() const { return g_.fat32 ? 0x0fffffffu : 0xffffu; }

  static std::size_t folder_bytes(const Node& folder, bool is_root) {
    std::size_t entries = is_root ? 1 : 2;  // the label; "." and ".."
    for (const auto& [name, child] : folder.children) entries += 1 + long_name_entries(name);
    return entries * entry;
  }

  Result<void> allocate(Node& node, std::size_t bytes) {
    const std::size_t count = (bytes + cluster_bytes() - 1) / cluster_bytes();
    if (count == 0) return {};
    if (fat_.size() + count > g_.clusters + 2)
      return Error(fmt::format("the files do not fit into a FAT file system of {} KiB", volume_.size_bytes / 1024));
    node.first_cluster = static_cast<std::uint32_t>(fat_.size());
    for (std::size_t i = 0; i + 1 < count; ++i) fat_.push_back(static_cast<std::uint32_t>(fat_.size() + 1));
    fat_.push_back(end_of_chain());
    return {};
  }

  Result<void> allocate_children(Node& folder) {
    if (folder.first_cluster == 0 && folder_bytes(folder, true) > g_.root * sector)
      return Error("too many files for a FAT16 root folder");
    for (auto& [name, child] : folder.children) {
      TRY_VOID(allocate(*child, child->folder ? folder_bytes(*child, false) : child->content.size()));
      if (child->folder) TRY_VOID(allocate_children(*child));
    }
    return {};
  }

  std::span<std::uint8_t> sectors(std::size_t first, std::size_t count) {
    return std::span(out_).subspan(first * sector, count * sector);
  }

  /// "Boot Sector and BPB Structure".
  void put_boot_sector() {
    const auto boot = sectors(0, 1);
    put_le(boot, 0, 0x9000eb | (g_.fat32 ? 0x5800 : 0x3c00), 3);
    std::ranges::copy(std::string_view("VENEER  "), boot.begin() + 3);
    put_le(boot, 11, sector, 2);
    put_le(boot, 13, g_.per_cluster, 1);
    put_le(boot, 14, g_.reserved, 2);
    put_le(boot, 16, 2, 1);
    put_le(boot, 17, g_.root * sector / entry, 2);
    const bool small = !g_.fat32 && g_.total < 0x10000;
    put_le(boot, 19, small ? g_.total : 0, 2);
    put_le(boot, 21, 0xf8, 1);
    put_le(boot, 22, g_.fat32 ? 0 : g_.fat, 2);
    put_le(boot, 24, 63, 2);
    put_le(boot, 26, 255, 2);
    put_le(boot, 28, volume_.hidden_sectors, 4);
    put_le(boot, 32, small ? 0 : g_.total, 4);
    std::size_t tail = 36;
    if (g_.fat32) {
      put_le(boot, 36, g_.fat, 4);
      put_le(boot, 44, 2, 4);  // the root folder's first cluster
      put_le(boot, 48, 1, 2);  // FSInfo
      put_le(boot, 50, 6, 2);  // the copy of this sector
      tail = 64;
    }
    put_le(boot, tail, 0x80, 1);
    put_le(boot, tail + 2, 0x29, 1);
    put_le(boot, tail + 3, volume_.serial, 4);
    std::ranges::copy(padded(volume_.label), boot.begin() + static_cast<std::ptrdiff_t>(tail + 7));
    std::ranges::copy(std::string_view(g_.fat32 ? "FAT32   " : "FAT16   "),
                      boot.begin() + static_cast<std::ptrdiff_t>(tail + 18));
    put_le(boot, g_.fat32 ? 0x5a : 0x3e, 0x18cd, 2);  // a BIOS that starts it: INT 18h, try the next one
    put_le(boot, 510, 0xaa55, 2);
    if (!g_.fat32) return;
    const auto info = sectors(1, 1);
    put_le(info, 0, 0x41615252, 4);
    put_le(info, 484, 0x61417272, 4);
    put_le(info, 488, g_.clusters - (fat_.size() - 2), 4);
    put_le(info, 492, fat_.size(), 4);
    put_le(info, 508, 0xaa550000, 4);
    std::ranges::copy(sectors(0, 2), sectors(6, 2).begin());
  }

  void put_fats() {
    const std::size_t width = g_.fat32 ? 4 : 2;
    for (std::uint32_t copy = 0; copy < 2; ++copy) {
      const auto table = sectors(g_.reserved + copy * g_.fat, g_.fat);
      for (std::size_t i = 0; i < fat_.size(); ++i) put_le(table, i * width, fat_[i], width);
    }
  }

  static std::string padded(std::string text) {
    text.resize(11, ' ');
    return text;
  }

  std::size_t place_of(const Node& node) const {
    if (node.first_cluster == 0) return std::size_t{g_.data() - g_.root} * sector;  // FAT16's root folder
    return std::size_t{g_.data()} * sector + (node.first_cluster - 2) * cluster_bytes();
  }

  void put_entry(std::size_t at, std::string_view short_name, std::uint8_t attributes, std::uint32_t cluster,
                 std::size_t size) {
    const auto e = std::span(out_).subspan(at, entry);
    std::ranges::copy(short_name, e.begin());
    put_le(e, 11, attributes, 1);
    put_le(e, 16, date_1980_01_01, 2);
    put_le(e, 18, date_1980_01_01, 2);
    put_le(e, 20, cluster >> 16, 2);
    put_le(e, 24, date_1980_01_01, 2);
    put_le(e, 26, cluster & 0xffff, 2);
    put_le(e, 28, size, 4);
  }

  void put_folder(const Node& folder, const Node* parent) {
    std::size_t at = place_of(folder);
    const auto next = [&at] { return std::exchange(at, at + entry); };
    if (parent == nullptr) {
      put_entry(next(), padded(volume_.label), ATTR_VOLUME_ID, 0, 0);
    } else {
      put_entry(next(), padded("."), ATTR_DIRECTORY, folder.first_cluster, 0);
      // ".." of a folder in the root is 0, also on FAT32.
      put_entry(next(), padded(".."), ATTR_DIRECTORY, parent == root_ ? 0 : parent->first_cluster, 0);
    }
    ShortNames names;
    for (const auto& [name, child] : folder.children) names.reserve(name);
    for (const auto& [name, child] : folder.children) {
      const std::string short_name = names.make(name);
      for (std::size_t left = long_name_entries(name); left > 0; --left)
        put_long_name_entry(std::span(out_).subspan(next(), entry), name, left, short_name);
      put_entry(next(), short_name, child->folder ? ATTR_DIRECTORY : ATTR_ARCHIVE, child->first_cluster,
                child->content.size());
    }
    for (const auto& [name, child] : folder.children) {
      if (child->folder) {
        put_folder(*child, &folder);
      } else if (!child->content.empty()) {
        std::ranges::copy(child->content, out_.begin() + static_cast<std::ptrdiff_t>(place_of(*child)));
      }
    }
  }

  const FatVolume& volume_;
  Geometry g_;
  std::vector<std::uint32_t> fat_;
  std::vector<std::uint8_t> out_;
  const Node* root_ = nullptr;
};

}  // namespace

Result<std::vector<std::uint8_t>> make_fat(const FatVolume& volume, const std::vector<FatFile>& files) {
  TRY(const Geometry geometry, choose_geometry(volume.size_bytes));
  VENEER_ASSERT(volume.label.size() <= 11);
  Node root;
  for (const FatFile& file : files) TRY_VOID(insert(root, file));
  return Writer(volume, geometry).write(root);
}

}  // namespace veneer::image
