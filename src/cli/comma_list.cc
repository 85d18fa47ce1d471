// Splitting lists.
#include "cli/comma_list.h"

namespace veneer::cli {

std::vector<std::string> split_at_commas(const std::string& text) {
  std::vector<std::string> words(1);
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != ',') {
      words.back() += text[i];
    } else if (i + 1 < text.size() && text[i + 1] == ',') {
      words.back() += text[i++];
    } else {
      words.emplace_back();
    }
  }
  return words;
}

}  // namespace veneer::cli
