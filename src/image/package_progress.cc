// Where an installation of packages stands, read off what apt and dpkg print.
#include "image/package_progress.h"

#include <fmt/format.h>

#include <charconv>

namespace veneer::image {

std::string PackageProgress::counted(const char* verb, unsigned done) const {
  return total_ == 0 ? fmt::format("{} {}", verb, done) : fmt::format("{} {} of {} packages", verb, done, total_);
}

std::string PackageProgress::take(std::string_view line) {
  // "0 upgraded, 69 newly installed, 0 to remove and 0 not upgraded.": one more installation begins.
  if (const std::size_t at = line.find(" newly installed"); at != std::string_view::npos) {
    const std::size_t number = line.rfind(' ', at - 1) + 1;
    total_ = fetched_ = unpacked_ = set_up_ = 0;
    std::from_chars(line.data() + number, line.data() + at, total_);
    return "";
  }
  if (line.starts_with("Get:")) return total_ == 0 ? "fetching package lists" : counted("fetching", ++fetched_);
  if (line.starts_with("Unpacking ")) return counted("unpacking", ++unpacked_);
  if (line.starts_with("Setting up ")) return counted("setting up", ++set_up_);
  if (line.starts_with("update-initramfs: Generating")) return "generating the initial RAM disk";
  if (line.starts_with("I: creating tarball")) return "moving the system out of its build folder";
  return "";
}

}  // namespace veneer::image
