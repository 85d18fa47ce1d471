// Where an installation of packages stands, read off what apt and dpkg print.
#pragma once

#include <string>
#include <string_view>

namespace veneer::image {

class PackageProgress {
 public:
  /// Takes a line of output; what to show now, or "" when that has not changed.
  std::string take(std::string_view line);

 private:
  std::string counted(const char* verb, unsigned done) const;
  unsigned total_ = 0, fetched_ = 0, unpacked_ = 0, set_up_ = 0;
};

}  // namespace veneer::image
