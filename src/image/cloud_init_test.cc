#include "image/cloud_init.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace veneer::image {
namespace {

class Folder {
 public:
  Folder() { EXPECT_NE(::mkdtemp(path_.data()), nullptr); }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string put(const std::string& name, const std::string& content) const {
    std::ofstream(path_ + "/" + name) << content;
    return path_ + "/" + name;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_ = "/tmp/veneer-seed-XXXXXX";
};

std::string content_of(const Result<std::vector<FatFile>>& files, const std::string& name) {
  if (!files) return files.error().message();
  const auto found = std::ranges::find(files.value(), name, &FatFile::path);
  return found == files.value().end() ? "(none)" : found->content;
}

TEST(CloudInit, FileIsTheUserData) {
  const Folder folder;
  const auto files = seed_files(folder.put("config.yaml", "#cloud-config\nhostname: x\n"));
  EXPECT_EQ(content_of(files, "user-data"), "#cloud-config\nhostname: x\n");
}
TEST(CloudInit, FolderGivesAllItHas) {
  const Folder folder;
  folder.put("user-data", "#cloud-config\n");
  folder.put("meta-data", "instance-id: mine\n");
  folder.put("network-config", "version: 2\n");
  const auto files = seed_files(folder.path());
  EXPECT_EQ(content_of(files, "meta-data"), "instance-id: mine\n");
  EXPECT_EQ(content_of(files, "network-config"), "version: 2\n");
}
TEST(CloudInit, InstanceFollowsFromTheContent) {
  const Folder folder;
  const auto one = content_of(seed_files(folder.put("a", "#cloud-config\n")), "meta-data");
  const auto same = content_of(seed_files(folder.put("b", "#cloud-config\n")), "meta-data");
  const auto other = content_of(seed_files(folder.put("c", "#cloud-config\nx: y\n")), "meta-data");
  EXPECT_TRUE(one.starts_with("instance-id: veneer-"));
  EXPECT_EQ(one, same);
  EXPECT_NE(one, other);
}
TEST(CloudInit, FolderWithoutUserData) {
  const Folder folder;
  EXPECT_NE(content_of(seed_files(folder.path()), "user-data").find("no file user-data"), std::string::npos);
}
TEST(CloudInit, MissingFile) { EXPECT_FALSE(seed_files("/nonexistent/user-data").ok()); }
TEST(CloudInit, WordsMakeAUser) {
  const Folder folder;
  const std::string key = folder.put("key.pub", "ssh-ed25519 AAAA me@here\n");
  EXPECT_EQ(content_of(seed_files("user=anna,password=a\"b,hostname=web,ssh-key=" + key), "user-data"),
            "#cloud-config\n"
            "hostname: \"web\"\n"
            "users:\n"
            "  - name: \"anna\"\n"
            "    shell: /bin/bash\n"
            "    groups: [sudo]\n"
            "    sudo: \"ALL=(ALL) NOPASSWD:ALL\"\n"
            "    lock_passwd: false\n"
            "    plain_text_passwd: \"a\\\"b\"\n"
            "    ssh_authorized_keys:\n"
            "      - \"ssh-ed25519 AAAA me@here\"\n"
            "ssh_pwauth: true\n");
}
TEST(CloudInit, UnknownWord) {
  EXPECT_NE(content_of(seed_files("user=anna,shell=zsh"), "user-data").find("shell=zsh"), std::string::npos);
}
TEST(CloudInit, PrivateKeyIsRefused) {
  const Folder folder;
  EXPECT_FALSE(seed_files("user=a,ssh-key=" + folder.put("key", "-----BEGIN OPENSSH PRIVATE KEY-----\n")).ok());
}
TEST(CloudInit, VolumeIsCalledCidata) {
  const auto volume = make_seed("user=anna");
  ASSERT_TRUE(volume.ok());
  const std::string bytes(volume.value().begin(), volume.value().end());
  EXPECT_EQ(bytes.substr(43, 11), "CIDATA     ");
  EXPECT_EQ(volume.value().size(), 8u << 20);
}

}  // namespace
}  // namespace veneer::image
