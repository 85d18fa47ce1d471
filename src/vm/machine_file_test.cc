// Saved machines: what a file says of the machine comes back as it was, and a damaged file is refused.
#include "vm/machine_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdlib>

namespace veneer::vm {
namespace {

using testing::HasSubstr;

class MachineFileTest : public testing::Test {
 protected:
  MachineFileTest() : file_(::mkstemp(path_.data())) {}
  ~MachineFileTest() override { ::unlink(path_.c_str()); }

  Result<MachineFile> written(const SavedConfig& config) {
    TRY_VOID(write_machine_file(file_, config, {}, memory_));
    return open_machine_file(path_);
  }

  std::string path_ = testing::TempDir() + "machine_file_XXXXXX";
  Fd file_;
  machine::GuestMemory memory_;
};

TEST_F(MachineFileTest, KernelModulesAndCommandLineComeBack) {
  SavedConfig config;
  config.kernel = "/boot/xen";
  config.cmdline = "console=com1";
  config.modules = {{"/boot/vmlinuz", "root=/dev/vda"}, {"/boot/initrd", ""}};
  const auto file = written(config);
  ASSERT_TRUE(file.ok()) << file.error().message();
  const SavedConfig& back = file.value().config;
  EXPECT_EQ(back.kernel, "/boot/xen");
  EXPECT_EQ(back.cmdline, "console=com1");
  ASSERT_EQ(back.modules.size(), 2u);
  EXPECT_EQ(back.modules[0].path, "/boot/vmlinuz");
  EXPECT_EQ(back.modules[0].words, "root=/dev/vda");
  EXPECT_EQ(back.modules[1].path, "/boot/initrd");
}

TEST_F(MachineFileTest, ABitThatChangedIsNoticed) {
  SavedConfig config;
  config.kernel = "/boot/xen";
  ASSERT_TRUE(write_machine_file(file_, config, {}, memory_).ok());
  constexpr off_t in_the_state = page_size + 20;
  char byte = 0;
  ASSERT_EQ(::pread(file_.get(), &byte, 1, in_the_state), 1);
  byte = static_cast<char>(byte ^ 1);
  ASSERT_EQ(::pwrite(file_.get(), &byte, 1, in_the_state), 1);
  const auto file = open_machine_file(path_);
  ASSERT_FALSE(file.ok());
  EXPECT_THAT(file.error().message(), HasSubstr("damaged"));
}

}  // namespace
}  // namespace veneer::vm
