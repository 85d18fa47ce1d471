// Shows how far a build is: one line that changes on a terminal, a line for each stage elsewhere.
#pragma once

#include <string>
#include <string_view>

#include "image/debian.h"

namespace veneer::cli {

class BuildDisplay {
 public:
  BuildDisplay(unsigned stages, bool verbose);
  ~BuildDisplay();
  BuildDisplay(const BuildDisplay&) = delete;
  BuildDisplay& operator=(const BuildDisplay&) = delete;

  void stage(std::string_view what);
  image::BuildWatch watch();

 private:
  void draw(std::string_view detail);

  unsigned stages_, current_ = 0;
  bool verbose_, terminal_;
  std::string stage_;
};

}  // namespace veneer::cli
