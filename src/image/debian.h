// Builds a disk with a bootable Debian system on it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/units.h"

namespace veneer::image {

struct DebianOptions {
  std::string suite = "bookworm";
  std::string mirror;  ///< empty: what the host's apt uses for this suite, else deb.debian.org
  std::string variant = "important";
  std::vector<std::string> packages;  ///< more of them
  std::uint64_t size_bytes = 8 * GiB;
  std::string hostname = "debian";
  std::string user = "debian";
  std::string password;               ///< empty: none, the user gets in with a key only
  std::vector<std::string> ssh_keys;  ///< lines for authorized_keys
};

/// Who looks on while an image is built.
struct BuildWatch {
  std::function<void(std::string_view what)> stage;      ///< a new stage begins
  std::function<void(std::string_view how_far)> detail;  ///< where it stands: "unpacking 12 of 300"
  std::function<void(std::string_view line)> output;     ///< what a program prints
  std::function<bool()> cancelled;
};

/// The stages that build_debian() announces, in their order.
inline constexpr unsigned debian_stage_count = 5;

/// What is wrong with the options, as a sentence, or success.
Result<void> check(const DebianOptions& options);

/// Names the programs that are missing on this host and the Debian packages that have them, or success.
Result<void> check_host();

/// A folder for building in TMPDIR (or /var/tmp), removed at the end, also what other users of the namespace own in it.
class WorkFolder {
 public:
  static Result<WorkFolder> make();
  WorkFolder(WorkFolder&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  WorkFolder& operator=(WorkFolder&&) = delete;
  ~WorkFolder();
  const std::string& path() const { return path_; }

 private:
  explicit WorkFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

/// Makes WORK/disk.raw, a sparse file. Everything else in the folder is rubbish then. Stopped: an error with ECANCELED.
Result<std::string> build_debian(const DebianOptions& options, const WorkFolder& work, const BuildWatch& watch);

}  // namespace veneer::image
