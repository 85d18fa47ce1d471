// Compressed clusters, through zlib and zstd.
#include "disk/qcow2/compression.h"

#include <zlib.h>
#include <zstd.h>

#include <cerrno>
#include <memory>

namespace veneer::disk::qcow2 {
namespace {

/// Bits of the deflate window: clusters are written with 12 by everybody.
constexpr int window_bits = -12;

Error damaged() { return Error("a compressed cluster is damaged").with_code(EIO); }

Result<void> inflate_cluster(std::span<const std::byte> in, std::span<std::byte> out) {
  z_stream stream{};
  if (inflateInit2(&stream, window_bits) != Z_OK) return Error("no memory to decompress").with_code(ENOMEM);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data()));
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int status = inflate(&stream, Z_FINISH);
  const bool whole = stream.avail_out == 0 && (status == Z_STREAM_END || status == Z_BUF_ERROR);
  inflateEnd(&stream);
  if (!whole) return damaged();
  return {};
}

Result<void> unzstd_cluster(std::span<const std::byte> in, std::span<std::byte> out) {
  // The stream interface: `in` ends with bytes that are not part of the frame, and frames may not say their size.
  const std::unique_ptr<ZSTD_DCtx, std::size_t (*)(ZSTD_DCtx*)> context(ZSTD_createDCtx(), ZSTD_freeDCtx);
  if (context == nullptr) return Error("no memory to decompress").with_code(ENOMEM);
  // A frame may ask for a window of up to 2 GiB; no cluster is larger than 2 MiB.
  ZSTD_DCtx_setParameter(context.get(), ZSTD_d_windowLogMax, 23);
  ZSTD_inBuffer input{in.data(), in.size(), 0};
  ZSTD_outBuffer output{out.data(), out.size(), 0};
  while (output.pos < output.size) {
    const std::size_t before_in = input.pos, before_out = output.pos;
    const std::size_t status = ZSTD_decompressStream(context.get(), &output, &input);
    if (ZSTD_isError(status)) return damaged();
    if (input.pos == before_in && output.pos == before_out) return damaged();
  }
  return {};
}

}  // namespace

Result<void> decompress(Compression kind, std::span<const std::byte> in, std::span<std::byte> out) {
  return kind == Compression::Zlib ? inflate_cluster(in, out) : unzstd_cluster(in, out);
}

bool compress(Compression kind, std::span<const std::byte> in, std::size_t limit, std::vector<std::byte>& out) {
  out.resize(limit);
  if (kind == Compression::Zstd) {
    const std::size_t size = ZSTD_compress(out.data(), out.size(), in.data(), in.size(), ZSTD_CLEVEL_DEFAULT);
    if (ZSTD_isError(size) || size >= limit) return false;
    out.resize(size);
    return true;
  }
  z_stream stream{};
  if (deflateInit2(&stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, window_bits, 9, Z_DEFAULT_STRATEGY) != Z_OK)
    return false;
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in.data()));
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  const int status = deflate(&stream, Z_FINISH);
  const std::size_t size = out.size() - stream.avail_out;
  deflateEnd(&stream);
  if (status != Z_STREAM_END || size >= limit) return false;
  out.resize(size);
  return true;
}

}  // namespace veneer::disk::qcow2
