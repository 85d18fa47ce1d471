// A new image file that appears under its name only when it is whole.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "cli/disk/disk_options.h"
#include "disk/host_file.h"
#include "disk/image.h"

namespace veneer::cli {

/// Makes a file beside the target, under another name; publish() renames it, without that it is removed again.
class NewFile {
 public:
  /// Fails if the target exists and is not to be replaced, or is no regular file.
  static Result<NewFile> make(const std::string& target, bool replace);
  NewFile(NewFile&& other) noexcept : target_(std::move(other.target_)), path_(std::exchange(other.path_, {})) {}
  NewFile& operator=(NewFile&&) = delete;
  ~NewFile();

  const std::string& path() const { return path_; }
  /// Syncs it (unless told not to), gives it its name, syncs the folder. The image must be closed.
  Result<void> publish(bool sync);

 private:
  NewFile(std::string target, std::string path) : target_(std::move(target)), path_(std::move(path)) {}
  std::string target_, path_;
};

/// Writes an empty image of that size into the file and opens it. Nothing is synced until NewFile::publish().
Result<std::unique_ptr<disk::Image>> make_image(const NewFile& file, const NewImage& like, std::uint64_t size_bytes,
                                                std::optional<std::string> backing, const std::string& backing_format);

}  // namespace veneer::cli
