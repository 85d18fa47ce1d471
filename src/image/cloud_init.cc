// Seeds for cloud-init's NoCloud data source.
#include "image/cloud_init.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string_view>

#include "base/log.h"
#include "base/units.h"

namespace veneer::image {
namespace {

constexpr std::uint64_t volume_bytes = 8 * MiB;
constexpr std::uint64_t file_bytes_max = 1 * MiB;

/// What user-data may begin with (cloud-init ignores everything else, with a warning that nobody sees).
constexpr std::array<std::string_view, 9> user_data_beginnings = {
    "#cloud-config", "#!",      "#include", "#cloud-boothook", "#part-handler", "## template: jinja", "Content-Type:",
    "MIME-Version:", "\x1f\x8b"};

Result<std::string> read_small(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string content((std::istreambuf_iterator<char>(file)), {});
  if (!file) return Error::from_errno(fmt::format("reading {}", path), errno);
  if (content.size() > file_bytes_max)
    return Error(fmt::format("{} has {} bytes: a seed's file has at most {}", path, content.size(), file_bytes_max));
  return content;
}

void check_user_data(const std::string& path, std::string_view content) {
  for (const std::string_view beginning : user_data_beginnings)
    if (content.starts_with(beginning)) return;
  log_warning(
      "{} begins with nothing that cloud-init knows and will be ignored; a configuration begins with a line "
      "#cloud-config, a script with #!",
      path);
}

/// A scalar of YAML, whatever is in it.
std::string yaml(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

struct Words {
  std::string user, password, key, hostname;
};

Result<Words> parse_words(const std::string& source) {
  Words words;
  for (std::size_t begin = 0; begin <= source.size();) {
    const std::size_t end = std::min(source.find(',', begin), source.size());
    const std::string word = source.substr(begin, end - begin);
    const std::size_t equals = word.find('=');
    const std::string key = word.substr(0, equals);
    const std::string value = equals == std::string::npos ? "" : word.substr(equals + 1);
    std::string* const target = key == "user"       ? &words.user
                                : key == "password" ? &words.password
                                : key == "ssh-key"  ? &words.key
                                : key == "hostname" ? &words.hostname
                                                    : nullptr;
    if (target == nullptr || value.empty())
      return Error(
          fmt::format("\"{}\" is none of user=NAME, password=TEXT, ssh-key=FILE, hostname=NAME (and there is no file "
                      "{})",
                      word, source));
    *target = value;
    begin = end + 1;
  }
  return words;
}

Result<std::string> user_data_of(const Words& words) {
  std::string out = "#cloud-config\n";
  if (!words.hostname.empty()) out += fmt::format("hostname: {}\n", yaml(words.hostname));
  out += "users:\n";
  out += words.user.empty() ? "  - default\n" : fmt::format("  - name: {}\n", yaml(words.user));
  if (!words.user.empty()) {
    out += "    shell: /bin/bash\n    groups: [sudo]\n    sudo: \"ALL=(ALL) NOPASSWD:ALL\"\n";
    out += fmt::format("    lock_passwd: {}\n", words.password.empty());
    if (!words.password.empty()) out += fmt::format("    plain_text_passwd: {}\n", yaml(words.password));
  } else if (!words.password.empty()) {
    out += fmt::format("password: {}\nchpasswd: {{expire: false}}\n", yaml(words.password));
  }
  if (!words.key.empty()) {
    TRY(std::string key, read_small(words.key));
    while (!key.empty() && key.back() == '\n') key.pop_back();
    if (key.find("PRIVATE KEY") != std::string::npos)
      return Error(fmt::format("{} is a private key: give the public one ({}.pub)", words.key, words.key));
    const char* const indent = words.user.empty() ? "" : "    ";
    out += fmt::format("{}ssh_authorized_keys:\n{}  - {}\n", indent, indent, yaml(key));
  }
  if (!words.password.empty()) out += "ssh_pwauth: true\n";
  return out;
}

std::string made_meta_data(const std::vector<FatFile>& files) {
  uLong sum = 0;
  for (const FatFile& file : files)
    sum = ::crc32(sum, reinterpret_cast<const Bytef*>(file.content.data()), static_cast<uInt>(file.content.size()));
  return fmt::format("instance-id: veneer-{:08x}\n", sum);
}

}  // namespace

Result<std::vector<FatFile>> seed_files(const std::string& source) {
  std::vector<FatFile> files;
  std::error_code none;
  if (std::filesystem::is_directory(source, none)) {
    for (const char* name : {"user-data", "meta-data", "network-config", "vendor-data"}) {
      const std::string path = fmt::format("{}/{}", source, name);
      if (!std::filesystem::exists(path, none)) continue;
      TRY(std::string content, read_small(path));
      files.push_back({name, std::move(content)});
    }
    if (files.empty() || files.front().path != "user-data")
      return Error(fmt::format("there is no file user-data in {}", source));
    check_user_data(source + "/user-data", files.front().content);
  } else if (!std::filesystem::exists(source, none) && source.find('=') != std::string::npos) {
    TRY(const Words words, parse_words(source));
    TRY(std::string content, user_data_of(words));
    files.push_back({"user-data", std::move(content)});
  } else {
    TRY(std::string content, read_small(source));
    check_user_data(source, content);
    files.push_back({"user-data", std::move(content)});
  }
  if (std::ranges::none_of(files, [](const FatFile& file) { return file.path == "meta-data"; }))
    files.push_back({"meta-data", made_meta_data(files)});
  return files;
}

Result<std::vector<std::uint8_t>> make_seed(const std::string& source) {
  TRY(const std::vector<FatFile> files, seed_files(source));
  TRY(std::vector<std::uint8_t> volume, make_fat({volume_bytes, "CIDATA", 0x5eed0001, 0}, files));
  volume.resize(volume_bytes);
  return volume;
}

}  // namespace veneer::image
