// qcow2's header, read and written.
#include "disk/qcow2/header.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "disk/qcow2/endian.h"

namespace veneer::disk::qcow2 {
namespace {

constexpr std::uint32_t v2_length = 72;
constexpr std::uint32_t v3_length = 104;
constexpr std::size_t feature_entry_bytes = 48;

Error bad(std::string what) { return Error("the qcow2 header is damaged: " + std::move(what)).with_code(EINVAL); }

std::string as_string(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::uint32_t u32(std::span<const std::byte> bytes, std::size_t at) {
  return load_be<std::uint32_t>(bytes.data() + at);
}
std::uint64_t u64(std::span<const std::byte> bytes, std::size_t at) {
  return load_be<std::uint64_t>(bytes.data() + at);
}

Result<void> read_version3(Header& header, std::span<const std::byte> fixed) {
  header.incompatible = u64(fixed, 72);
  header.compatible = u64(fixed, 80);
  header.autoclear = u64(fixed, 88);
  header.geometry.refcount_order = u32(fixed, 96);
  header.header_length = u32(fixed, 100);
  if (header.header_length < v3_length || header.header_length > header.geometry.cluster_size())
    return bad(fmt::format("header_length is {}", header.header_length));
  if (header.geometry.refcount_order > 6)
    return bad(fmt::format("refcount_order is {}, at most 6 is possible", header.geometry.refcount_order));
  header.geometry.extended_l2 = header.has(INCOMPATIBLE_EXTENDED_L2);
  if (header.geometry.extended_l2 && header.geometry.cluster_bits < 14)
    return bad("extended L2 entries need clusters of at least 16 KiB");
  return {};
}

Result<void> read_extensions(Header& header, std::span<const std::byte> cluster, std::uint64_t end) {
  std::uint64_t at = header.header_length;
  while (at + 8 <= end) {
    const std::uint32_t type = u32(cluster, at);
    const std::uint64_t length = u32(cluster, at + 4);
    at += 8;
    if (type == 0) return {};
    if (length > end - at)
      return bad(fmt::format("the header extension {:#x} is {} bytes long and leaves the first cluster", type, length));
    const std::span<const std::byte> data = cluster.subspan(at, length);
    if (type == Extension::BACKING_FORMAT)
      header.backing_format = as_string(data);
    else
      header.extensions.push_back({type, {data.begin(), data.end()}});
    if (type == Extension::DATA_FILE) header.data_file = as_string(data);
    at += align_up(length, 8);
  }
  return {};
}

/// Fields whose values depend on each other.
Result<void> check_tables(const Header& header) {
  const Geometry& geometry = header.geometry;
  if (std::uint64_t{header.l1_entries} * 8 > max_l1_bytes)
    return bad(fmt::format("the L1 table has {} entries, more than {} are not supported", header.l1_entries,
                           max_l1_bytes / 8));
  const std::uint64_t needed =
      header.size_bytes / geometry.l2_covers() + (header.size_bytes % geometry.l2_covers() != 0 ? 1 : 0);
  if (needed > header.l1_entries)
    return bad(
        fmt::format("its L1 table of {} entries is too small for {} bytes", header.l1_entries, header.size_bytes));
  if (geometry.in_cluster(header.l1_offset) != 0 || header.l1_offset >= max_host_offset ||
      (header.l1_offset == 0 && header.l1_entries != 0))
    return bad(fmt::format("the L1 table stands at {:#x}", header.l1_offset));
  if (geometry.in_cluster(header.refcount_table_offset) != 0 || header.refcount_table_offset == 0 ||
      header.refcount_table_offset >= max_host_offset)
    return bad(fmt::format("the refcount table stands at {:#x}", header.refcount_table_offset));
  if (header.refcount_table_clusters == 0) return bad("there is no refcount table");
  if ((std::uint64_t{header.refcount_table_clusters} << geometry.cluster_bits) > max_refcount_table_bytes)
    return bad(fmt::format("the refcount table has {} clusters, more than {} are not supported",
                           header.refcount_table_clusters, max_refcount_table_bytes >> geometry.cluster_bits));
  if (header.snapshots > max_snapshots) return bad(fmt::format("it counts {} snapshots", header.snapshots));
  if (header.snapshots != 0 && (geometry.in_cluster(header.snapshots_offset) != 0 || header.snapshots_offset == 0 ||
                                header.snapshots_offset >= max_host_offset))
    return bad(fmt::format("the snapshot table stands at {:#x}", header.snapshots_offset));
  return {};
}

Result<void> check_features(Header& header, std::span<const std::byte> cluster) {
  constexpr std::uint64_t known = INCOMPATIBLE_DIRTY | INCOMPATIBLE_CORRUPT | INCOMPATIBLE_DATA_FILE |
                                  INCOMPATIBLE_COMPRESSION | INCOMPATIBLE_EXTENDED_L2;
  if (const std::uint64_t unknown = header.incompatible & ~known; unknown != 0) {
    std::string names;
    for (unsigned n = 0; n < 64; ++n)
      if (unknown & bit(n)) names += (names.empty() ? "" : ", ") + feature_name(header, 0, n);
    return Error(fmt::format("the image needs features that this version does not know: {}", names)).with_code(ENOTSUP);
  }
  std::uint8_t type = 0;
  if (header.version >= 3 && header.header_length > 104) type = std::to_integer<std::uint8_t>(cluster[104]);
  if ((type != 0) != header.has(INCOMPATIBLE_COMPRESSION))
    return bad(fmt::format("compression type {} does not go with the compression feature bit", type));
  if (type > 1) return Error(fmt::format("its compression type {} is not known", type)).with_code(ENOTSUP);
  header.compression = static_cast<Compression>(type);
  return {};
}

void append(std::vector<std::byte>& out, std::uint32_t type, std::span<const std::byte> data) {
  const std::size_t at = out.size();
  out.resize(at + 8 + align_up(data.size(), 8));
  store_be<std::uint32_t>(out.data() + at, type);
  store_be<std::uint32_t>(out.data() + at + 4, static_cast<std::uint32_t>(data.size()));
  std::copy(data.begin(), data.end(), out.begin() + static_cast<std::ptrdiff_t>(at + 8));
}

}  // namespace

const Extension* Header::find(std::uint32_t type) const {
  const auto found = std::find_if(extensions.begin(), extensions.end(),
                                  [type](const Extension& extension) { return extension.type == type; });
  return found == extensions.end() ? nullptr : &*found;
}

std::string feature_name(const Header& header, unsigned type, unsigned bit_number) {
  const Extension* table = header.find(Extension::FEATURE_NAMES);
  for (std::size_t at = 0; table != nullptr && at + feature_entry_bytes <= table->data.size();
       at += feature_entry_bytes) {
    const std::byte* entry = table->data.data() + at;
    if (std::to_integer<unsigned>(entry[0]) != type || std::to_integer<unsigned>(entry[1]) != bit_number) continue;
    const char* name = reinterpret_cast<const char*>(entry + 2);
    std::string text(name, strnlen(name, feature_entry_bytes - 2));
    for (char& c : text)
      if (c < ' ' || c > '~') c = '?';  // goes to a terminal
    if (!text.empty()) return text;
  }
  return fmt::format("bit {}", bit_number);
}

Result<Header> read_header(HostFile& file) {
  std::array<std::byte, v3_length> fixed;
  TRY_VOID(file.read_bytes(0, fixed));
  if (u32(fixed, 0) != magic) return Error("it is not a qcow2 image (no qcow2 mark at its start)").with_code(EINVAL);
  Header header;
  header.version = u32(fixed, 4);
  if (header.version != 2 && header.version != 3)
    return Error(fmt::format("qcow2 version {} is not known (2 and 3 are)", header.version)).with_code(ENOTSUP);
  header.geometry.cluster_bits = u32(fixed, 20);
  if (header.geometry.cluster_bits < min_cluster_bits || header.geometry.cluster_bits > max_cluster_bits)
    return bad(fmt::format("cluster_bits is {}, {} to {} are possible", header.geometry.cluster_bits, min_cluster_bits,
                           max_cluster_bits));
  header.size_bytes = u64(fixed, 24);
  if (const std::uint32_t method = u32(fixed, 32); method != 0)
    return Error(fmt::format("the image is encrypted ({}), which Veneer does not decrypt. Convert it: qemu-img convert",
                             method == 1   ? "AES"
                             : method == 2 ? "LUKS"
                                           : fmt::format("method {}", method)))
        .with_code(ENOTSUP);
  header.l1_entries = u32(fixed, 36);
  header.l1_offset = u64(fixed, 40);
  header.refcount_table_offset = u64(fixed, 48);
  header.refcount_table_clusters = u32(fixed, 56);
  header.snapshots = u32(fixed, 60);
  header.snapshots_offset = u64(fixed, 64);
  header.header_length = v2_length;
  if (header.version >= 3) TRY_VOID(read_version3(header, fixed));

  std::vector<std::byte> cluster(header.geometry.cluster_size());
  TRY_VOID(file.read_bytes(0, cluster));
  const std::uint64_t name_at = u64(fixed, 8);
  const std::uint32_t name_length = u32(fixed, 16);
  if (name_at != 0) {
    if (name_length > max_backing_name || name_at > cluster.size() || name_length > cluster.size() - name_at)
      return bad("the name of the backing file does not lie in the first cluster");
    header.backing_file = as_string(std::span(cluster).subspan(name_at, name_length));
    if (header.backing_file->find('\0') != std::string::npos)
      return bad("the name of the backing file holds a zero byte");
  }
  TRY_VOID(read_extensions(header, cluster,
                           name_at != 0 ? std::min<std::uint64_t>(name_at, cluster.size()) : cluster.size()));
  TRY_VOID(check_features(header, cluster));
  TRY_VOID(check_tables(header));
  if (header.version >= 3 && header.header_length > 112)
    header.unknown_fields.assign(cluster.begin() + 112, cluster.begin() + header.header_length);
  return header;
}

Result<std::vector<std::byte>> serialize_header(const Header& header) {
  std::vector<std::byte> out(header.version == 2 ? v2_length : 112);
  store_be<std::uint32_t>(&out[0], magic);
  store_be<std::uint32_t>(&out[4], header.version);
  store_be<std::uint32_t>(&out[20], header.geometry.cluster_bits);
  store_be<std::uint64_t>(&out[24], header.size_bytes);
  store_be<std::uint32_t>(&out[36], header.l1_entries);
  store_be<std::uint64_t>(&out[40], header.l1_offset);
  store_be<std::uint64_t>(&out[48], header.refcount_table_offset);
  store_be<std::uint32_t>(&out[56], header.refcount_table_clusters);
  store_be<std::uint32_t>(&out[60], header.snapshots);
  store_be<std::uint64_t>(&out[64], header.snapshots_offset);
  if (header.version >= 3) {
    store_be<std::uint64_t>(&out[72], header.incompatible);
    store_be<std::uint64_t>(&out[80], header.compatible);
    store_be<std::uint64_t>(&out[88], header.autoclear);
    store_be<std::uint32_t>(&out[96], header.geometry.refcount_order);
    out[104] = static_cast<std::byte>(header.compression);
    out.insert(out.end(), header.unknown_fields.begin(), header.unknown_fields.end());
    store_be<std::uint32_t>(&out[100], static_cast<std::uint32_t>(out.size()));
  }
  if (!header.backing_format.empty())
    append(out, Extension::BACKING_FORMAT, std::as_bytes(std::span(header.backing_format)));
  for (const Extension& extension : header.extensions) append(out, extension.type, extension.data);
  append(out, 0, {});
  if (header.backing_file) {
    const std::string& name = *header.backing_file;
    if (name.size() > max_backing_name)
      return Error(fmt::format("the name of the backing file is {} bytes long, {} are possible", name.size(),
                               max_backing_name))
          .with_code(ENAMETOOLONG);
    store_be<std::uint64_t>(&out[8], out.size());
    store_be<std::uint32_t>(&out[16], static_cast<std::uint32_t>(name.size()));
    const auto bytes = std::as_bytes(std::span(name));
    out.insert(out.end(), bytes.begin(), bytes.end());
  }
  if (out.size() > header.geometry.cluster_size())
    return Error(
               fmt::format("header and backing file name need {} bytes, a cluster has {}. Use a shorter name or larger "
                           "clusters",
                           out.size(), header.geometry.cluster_size()))
        .with_code(ENAMETOOLONG);
  return out;
}

}  // namespace veneer::disk::qcow2
