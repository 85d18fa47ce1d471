// Which card gets a boot ROM, and what is no ROM.
#include "vm/boot_rom.h"

#include <gmock/gmock.h>

namespace veneer::vm {
namespace {

MachineConfig with(Firmware::Kind firmware) {
  MachineConfig config;
  config.firmware.kind = firmware;
  return config;
}

TEST(BootRom, NoneWithoutFirmware) { EXPECT_TRUE(read_boot_rom(with(Firmware::Kind::None), {}).value().empty()); }
TEST(BootRom, SeaBiosFindsOneOnEachModel) {
  for (const CardModel model : {CardModel::Virtio, CardModel::E1000}) {
    NetConfig net;
    net.model = model;
    const auto rom = read_boot_rom(with(Firmware::Kind::SeaBios), net);
    ASSERT_TRUE(rom.ok()) << rom.error().message();
    EXPECT_FALSE(rom.value().empty());
  }
}
TEST(BootRom, OvmfDrivesVirtioItself) {
  const MachineConfig config = with(Firmware::Kind::Ovmf);
  EXPECT_TRUE(read_boot_rom(config, {}).value().empty());
  EXPECT_TRUE(boots_from(config, {}, false));
}
TEST(BootRom, NoneOnRequest) {
  NetConfig net;
  net.boot_rom = "none";
  EXPECT_TRUE(read_boot_rom(with(Firmware::Kind::SeaBios), net).value().empty());
  EXPECT_FALSE(boots_from(with(Firmware::Kind::Ovmf), net, false));
}
TEST(BootRom, AnyFileIsNone) {
  NetConfig net;
  net.boot_rom = "/proc/self/exe";
  EXPECT_FALSE(read_boot_rom(with(Firmware::Kind::SeaBios), net).ok());
  net.boot_rom = "/etc/passwd";
  EXPECT_THAT(read_boot_rom(with(Firmware::Kind::SeaBios), net).error().message(),
              ::testing::AllOf(::testing::HasSubstr("/etc/passwd"), ::testing::HasSubstr("no expansion ROM")));
}

}  // namespace
}  // namespace veneer::vm
