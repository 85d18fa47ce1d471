// Where load_linux puts things, and its errors.
#include "boot/linux.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <array>

#include "boot/fake_kernel.h"
#include "boot/low_memory.h"

namespace veneer::boot {
namespace {

using testing::HasSubstr;

class LinuxBootTest : public testing::Test {
 protected:
  void give_ram(std::uint64_t bytes) {
    ASSERT_TRUE(memory.add("low", GuestPhys{0}, 0xa0000, machine::SlotKind::Ram).ok());
    ASSERT_TRUE(memory.add("high", GuestPhys{MiB}, bytes - MiB, machine::SlotKind::Ram).ok());
    boot.e820 = {{0, 0x9fc00, E820Type::Ram}, {MiB, bytes - MiB, E820Type::Ram}};
  }
  Result<BootEntry> load(std::span<const std::byte> bytes) {
    const TemporaryFile file(bytes);
    boot.kernel = file.path();
    return load_linux(memory, boot, state);
  }
  std::string error_of(std::span<const std::byte> bytes) {
    const auto result = load(bytes);
    return result ? "loaded" : result.error().message();
  }
  template <typename T>
  T peek(std::uint64_t address) {
    T value{};
    EXPECT_TRUE(memory.read_value(GuestPhys{address}, value));
    return value;
  }

  machine::GuestMemory memory;
  LinuxBoot boot{.kernel = {}, .initrd = {}, .cmdline = "console=ttyS0", .acpi_rsdp = {}, .e820 = {}};
  cpu::ArchState state;
  FakeKernel kernel;
};

TEST_F(LinuxBootTest, LoadsAtThePreferredAddress) {
  give_ram(64 * MiB);
  const auto entry = load(kernel.bytes());
  ASSERT_TRUE(entry.ok());
  EXPECT_EQ(entry.value().kernel.value, 16 * MiB);
  EXPECT_EQ(peek<std::uint8_t>(16 * MiB + 0x1234), 0x34);
}

TEST_F(LinuxBootTest, EntersAtOffset200) {
  give_ram(64 * MiB);
  ASSERT_TRUE(load(kernel.bytes()).ok());
  EXPECT_EQ(state.rip, 16 * MiB + 0x200);
}

TEST_F(LinuxBootTest, EntersIn64BitModeWithInterruptsOff) {
  give_ram(64 * MiB);
  ASSERT_TRUE(load(kernel.bytes()).ok());
  EXPECT_TRUE(state.code64());
  EXPECT_EQ(state.rflags & cpu::RFLAGS_IF, 0u);
}

TEST_F(LinuxBootTest, EntersA32BitKernelInProtectedMode) {
  give_ram(64 * MiB);
  kernel.put<std::uint16_t>(0x236, 0);
  ASSERT_TRUE(load(kernel.bytes()).ok());
  EXPECT_EQ(state.rip, 16 * MiB);
  EXPECT_EQ(state.cr0 & (cpu::CR0_PE | cpu::CR0_PG), cpu::CR0_PE);
  EXPECT_FALSE(state.long_mode());
  EXPECT_EQ(state.segments[cpu::CS].attributes & cpu::Segment::DB, cpu::Segment::DB);
  EXPECT_EQ(state.gpr[cpu::RSI], low_memory::BOOT_PARAMS);
}

TEST_F(LinuxBootTest, MapsTheLowFourGigabytesOneToOne) {
  give_ram(64 * MiB);
  ASSERT_TRUE(load(kernel.bytes()).ok());
  constexpr std::uint64_t address = 0xc123'4567;
  const auto pdpt = peek<std::uint64_t>(state.cr3) & ~page_offset_mask;
  const auto directory = peek<std::uint64_t>(pdpt + (address >> 30) * 8) & ~page_offset_mask;
  const auto entry = peek<std::uint64_t>(directory + ((address >> 21) & 511) * 8);
  EXPECT_EQ(entry, (address & ~(2 * MiB - 1)) | 0x83);
}

TEST_F(LinuxBootTest, GdtHoldsTheSelectorsInUse) {
  give_ram(64 * MiB);
  ASSERT_TRUE(load(kernel.bytes()).ok());
  EXPECT_EQ(peek<std::uint64_t>(state.gdtr.base + state.segments[cpu::CS].selector) >> 53 & 1, 1u);  // L
}

TEST_F(LinuxBootTest, CopiesTheSetupHeaderToTheZeroPage) {
  give_ram(64 * MiB);
  ASSERT_TRUE(load(kernel.bytes()).ok());
  EXPECT_EQ(peek<std::uint32_t>(state.gpr[cpu::RSI] + 0x202), 0x53726448u);
}

TEST_F(LinuxBootTest, WritesTheCommandLineWithItsZero) {
  give_ram(64 * MiB);
  ASSERT_TRUE(load(kernel.bytes()).ok());
  const auto text = peek<std::array<char, 14>>(peek<std::uint32_t>(low_memory::BOOT_PARAMS + 0x228));
  EXPECT_STREQ(text.data(), "console=ttyS0");
}

TEST_F(LinuxBootTest, WritesTheMemoryMap) {
  give_ram(64 * MiB);
  ASSERT_TRUE(load(kernel.bytes()).ok());
  EXPECT_EQ(peek<std::uint8_t>(low_memory::BOOT_PARAMS + 0x1e8), 2);
  EXPECT_EQ(peek<std::uint64_t>(low_memory::BOOT_PARAMS + 0x2d0 + 20 + 8), 63 * MiB);
}

TEST_F(LinuxBootTest, PassesTheRsdp) {
  give_ram(64 * MiB);
  boot.acpi_rsdp = GuestPhys{0xe0000};
  ASSERT_TRUE(load(kernel.bytes()).ok());
  EXPECT_EQ(peek<std::uint64_t>(low_memory::BOOT_PARAMS + 0x70), 0xe0000u);
}

TEST_F(LinuxBootTest, PassesARandomSeed) {
  give_ram(64 * MiB);
  ASSERT_TRUE(load(kernel.bytes()).ok());
  const auto node = peek<std::uint64_t>(low_memory::BOOT_PARAMS + 0x250);
  EXPECT_EQ(peek<std::uint32_t>(node + 8), 9u);
  EXPECT_NE(peek<std::uint64_t>(node + 16), 0u);
}

TEST_F(LinuxBootTest, PutsTheInitrdAtTheTopOfRam) {
  give_ram(64 * MiB);
  const std::vector<std::byte> content(5000, std::byte{0x5a});
  const TemporaryFile initrd(content);
  boot.initrd = initrd.path();
  const auto entry = load(kernel.bytes());
  ASSERT_TRUE(entry.ok());
  EXPECT_EQ(entry.value().initrd.value, 64 * MiB - 8192);
  EXPECT_EQ(peek<std::uint8_t>(64 * MiB - 8192 + 4999), 0x5a);
}

TEST_F(LinuxBootTest, KeepsTheInitrdBelowTheKernelsLimit) {
  give_ram(64 * MiB);
  kernel.put<std::uint32_t>(0x22c, 0x1ffffff);
  const TemporaryFile initrd(std::vector<std::byte>(4096));
  boot.initrd = initrd.path();
  const auto entry = load(kernel.bytes());
  ASSERT_TRUE(entry.ok());
  EXPECT_EQ(entry.value().initrd.value, 32 * MiB - 4096);
}

TEST_F(LinuxBootTest, RefusesAnInitrdThatDoesNotFit) {
  give_ram(18 * MiB);
  const TemporaryFile initrd(std::vector<std::byte>(2 * MiB));
  boot.initrd = initrd.path();
  EXPECT_THAT(error_of(kernel.bytes()), AllOf(HasSubstr("initrd "), HasSubstr("more memory")));
}

TEST_F(LinuxBootTest, RefusesAnInitrdLimitBelowTheKernel) {
  give_ram(64 * MiB);
  kernel.put<std::uint32_t>(0x22c, 0x1000);
  const TemporaryFile initrd(std::vector<std::byte>(4096));
  boot.initrd = initrd.path();
  EXPECT_THAT(error_of(kernel.bytes()), HasSubstr("initrd "));
}

TEST_F(LinuxBootTest, RefusesAnEmptyInitrd) {
  give_ram(64 * MiB);
  const TemporaryFile initrd(std::span<const std::byte>{});
  boot.initrd = initrd.path();
  EXPECT_THAT(error_of(kernel.bytes()), HasSubstr("empty"));
}

TEST_F(LinuxBootTest, RefusesAMissingInitrd) {
  give_ram(64 * MiB);
  boot.initrd = "/nonexistent/initrd";
  EXPECT_THAT(error_of(kernel.bytes()), HasSubstr("initrd /nonexistent/initrd: cannot open it: No such file"));
}

TEST_F(LinuxBootTest, RefusesTooLittleMemory) {
  give_ram(16 * MiB);
  kernel.put<std::uint32_t>(0x260, 32 * MiB);
  EXPECT_THAT(error_of(kernel.bytes()), HasSubstr("memory too small: the kernel needs 32.0 MiB"));
}

TEST_F(LinuxBootTest, RefusesARelocatableKernelThatWouldMoveItselfBeyondRam) {
  give_ram(8 * MiB);
  EXPECT_THAT(error_of(kernel.bytes()), HasSubstr("memory too small"));
}

TEST_F(LinuxBootTest, RefusesAFixedKernelBeyondRam) {
  give_ram(8 * MiB);
  kernel.put<std::uint8_t>(0x234, 0);
  EXPECT_THAT(error_of(kernel.bytes()), HasSubstr("memory too small"));
}

TEST_F(LinuxBootTest, RefusesAPreferredAddressAtTheEndOfTheAddressSpace) {
  give_ram(8 * MiB);
  kernel.put<std::uint64_t>(0x258, ~std::uint64_t{0} << 12);
  kernel.put<std::uint8_t>(0x234, 0);
  EXPECT_THAT(error_of(kernel.bytes()), HasSubstr("memory too small"));
}

TEST_F(LinuxBootTest, RefusesATooLongCommandLine) {
  give_ram(64 * MiB);
  boot.cmdline.assign(2048, 'x');
  EXPECT_THAT(error_of(kernel.bytes()), HasSubstr("too long: 2048 bytes, this kernel takes 2047"));
}

TEST_F(LinuxBootTest, RefusesADirectory) {
  give_ram(64 * MiB);
  boot.kernel = "/tmp";
  EXPECT_EQ(load_linux(memory, boot, state).error().message(), "kernel /tmp: it is a directory");
}

TEST_F(LinuxBootTest, RefusesAFifoWithoutWaitingForAWriter) {
  give_ram(64 * MiB);
  char directory[] = "/tmp/veneer-test-XXXXXX";
  ASSERT_NE(::mkdtemp(directory), nullptr);
  boot.kernel = std::string(directory) + "/fifo";
  ASSERT_EQ(::mkfifo(boot.kernel.c_str(), 0600), 0);
  const auto result = load_linux(memory, boot, state);
  ::unlink(boot.kernel.c_str());
  ::rmdir(directory);
  EXPECT_THAT(result.error().message(), HasSubstr("not a regular file"));
}

TEST_F(LinuxBootTest, NamesTheFileInErrors) {
  give_ram(64 * MiB);
  boot.kernel = "/nonexistent/vmlinuz";
  EXPECT_EQ(load_linux(memory, boot, state).error().message(),
            "kernel /nonexistent/vmlinuz: cannot open it: No such file or directory");
}

TEST_F(LinuxBootTest, NoTruncationIsAccepted) {
  give_ram(64 * MiB);
  const std::vector<std::byte> whole = kernel.bytes();
  std::size_t accepted = 0;
  for (std::size_t size = 0; size + 16 <= whole.size(); size += size < 2048 ? 1 : 997)
    accepted += load(std::span(whole).first(size)).ok();
  EXPECT_EQ(accepted, 0u);
}

}  // namespace
}  // namespace veneer::boot
