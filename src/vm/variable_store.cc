// Making, opening and writing the file of UEFI variables.
#include "vm/variable_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "base/fd.h"
#include "base/log.h"
#include "disk/image.h"

namespace veneer::vm {
namespace {

constexpr std::string_view volume_signature = "_FVH";
constexpr std::size_t signature_offset = 40;

Result<void> write_all(const Fd& file, std::span<const std::byte> data) {
  while (!data.empty()) {
    const ssize_t n = ::write(file.get(), data.data(), data.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::from_errno("writing it", errno);
    data = data.subspan(static_cast<std::size_t>(n));
  }
  if (::fsync(file.get()) != 0) return Error::from_errno("syncing it", errno);
  return {};
}

/// The file appears with all its contents or not at all; one that came up meanwhile is left alone.
Result<void> make(const std::string& path, std::span<const std::byte> contents) {
  const std::string draft = fmt::format("{}.new-{}", path, ::getpid());
  const Fd file(::open(draft.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!file.valid())
    return Error::from_errno(
        "it is not there and cannot be made (--firmware ovmf,vars=FILE puts it elsewhere, "
        "vars=none forgets the settings at the end)",
        errno);
  auto done = write_all(file, contents);
  if (done && ::link(draft.c_str(), path.c_str()) != 0 && errno != EEXIST)
    done = ::rename(draft.c_str(), path.c_str()) == 0 ? Result<void>{} : Error::from_errno("giving it its name", errno);
  ::unlink(draft.c_str());
  return done;
}

}  // namespace

bool is_variable_image(std::span<const std::byte> contents) {
  return contents.size() >= signature_offset + volume_signature.size() &&
         std::memcmp(contents.data() + signature_offset, volume_signature.data(), volume_signature.size()) == 0;
}

Result<std::unique_ptr<VariableStore>> VariableStore::open(const std::string& path, std::span<const std::byte> first) {
  const auto in_context = [&](Error error) {
    return std::move(error).context(fmt::format("firmware settings {}", path));
  };
  if (::access(path.c_str(), F_OK) != 0 && errno == ENOENT)
    if (auto made = make(path, first); !made) return in_context(std::move(made).error());
  disk::OpenOptions options;
  options.format = disk::Format::Raw;
  auto file = disk::open_host_file(path, options);
  if (!file) return in_context(std::move(file).error());
  std::unique_ptr<VariableStore> store(new VariableStore(std::move(file).value()));
  TRY(const std::uint64_t size, store->file_->size());
  if (size != first.size())
    return in_context(
        Error(fmt::format("it has {} bytes and this firmware's flash {}: it was cut short, or belongs to "
                          "another firmware. Remove it to start with fresh settings, or name another "
                          "file with --firmware ovmf,vars=FILE",
                          size, first.size())));
  std::array<std::byte, signature_offset + volume_signature.size()> head{};
  if (auto got = store->file_->read_bytes(0, head); !got) return in_context(std::move(got).error());
  if (!is_variable_image(head))
    return in_context(
        Error("it holds no UEFI variables (no firmware volume begins there). Remove it to start with "
              "fresh settings, or name another file with --firmware ovmf,vars=FILE"));
  return store;
}

VariableStore::~VariableStore() { settle(); }

Result<void> VariableStore::read(std::span<std::byte> contents) { return file_->read_bytes(0, contents); }

/// The guest hears of each failure, the user of the first.
bool VariableStore::check(const Result<void>& done) {
  if (!done && !complained_)
    log_warning("firmware settings {}: {}; what the guest changes is not kept", file_->path(), done.error().message());
  complained_ = !done.ok();
  return done.ok();
}

bool VariableStore::write(std::uint64_t offset, std::span<const std::byte> data) {
  dirty_ = true;
  return check(file_->write_bytes(offset, data));
}

void VariableStore::settle() {
  if (!dirty_) return;
  dirty_ = false;
  check(file_->sync());
}

}  // namespace veneer::vm
