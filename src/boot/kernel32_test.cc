// PVH and multiboot kernels: where things are put, what the kernel is told, and errors.
#include "boot/kernel32.h"

#include <elf.h>
#include <gmock/gmock.h>

#include <cstring>

#include "boot/fake_kernel.h"
#include "boot/low_memory.h"

namespace veneer::boot {
namespace {

using testing::HasSubstr;
using Bytes = std::vector<std::byte>;

template <typename T>
void put(Bytes& bytes, std::size_t at, const T& value) {
  if (bytes.size() < at + sizeof value) bytes.resize(at + sizeof value);
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

constexpr std::uint64_t load_at = 2 * MiB;
constexpr std::size_t payload_at = 0x200, payload_bytes = 0x100;

/// An ELF file with one segment of 256 bytes, each 0xaa, and 256 more that are zero; with a PVH note or without.
template <typename Header, typename ProgramHeader>
Bytes elf(unsigned char ident_class, std::uint16_t machine, bool pvh) {
  Bytes bytes;
  Header header{};
  std::memcpy(header.e_ident, ELFMAG, SELFMAG);
  header.e_ident[EI_CLASS] = ident_class;
  header.e_ident[EI_DATA] = ELFDATA2LSB;
  header.e_type = ET_EXEC;
  header.e_machine = machine;
  header.e_entry = load_at + 0x10;
  header.e_phoff = sizeof header;
  header.e_phentsize = sizeof(ProgramHeader);
  header.e_phnum = 2;
  put(bytes, 0, header);
  ProgramHeader load{};
  load.p_type = PT_LOAD;
  load.p_offset = payload_at;
  load.p_paddr = load_at;
  load.p_filesz = payload_bytes;
  load.p_memsz = 2 * payload_bytes;
  put(bytes, sizeof header, load);
  struct {
    std::uint32_t name_bytes = 4, bytes = 4, type = 18;
    char name[4] = "Xen";
    std::uint32_t entry = load_at + 0x20;
  } note;
  constexpr std::size_t note_at = 0x180;
  ProgramHeader notes{};
  notes.p_type = pvh ? PT_NOTE : PT_NULL;
  notes.p_offset = note_at;
  notes.p_filesz = sizeof note;
  put(bytes, sizeof header + sizeof load, notes);
  put(bytes, note_at, note);
  bytes.resize(payload_at);
  bytes.resize(payload_at + payload_bytes, std::byte{0xaa});
  return bytes;
}

Bytes elf64(bool pvh) { return elf<Elf64_Ehdr, Elf64_Phdr>(ELFCLASS64, EM_X86_64, pvh); }
Bytes elf32(bool pvh) { return elf<Elf32_Ehdr, Elf32_Phdr>(ELFCLASS32, EM_386, pvh); }

void put_multiboot(Bytes& bytes, std::size_t at, std::uint32_t flags) {
  constexpr std::uint32_t magic = 0x1badb002;
  put(bytes, at, magic);
  put(bytes, at + 4, flags);
  put(bytes, at + 8, 0 - magic - flags);
}

class Kernel32 : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(memory.add("low", GuestPhys{0}, 0xa0000, machine::SlotKind::Ram).ok());
    ASSERT_TRUE(memory.add("high", GuestPhys{MiB}, 15 * MiB, machine::SlotKind::Ram).ok());
    boot.e820 = {{0, 0x9fc00, E820Type::Ram}, {MiB, 15 * MiB, E820Type::Ram}};
    boot.cmdline = "one two";
    boot.acpi_rsdp = GuestPhys{0xe0000};
  }
  Result<BootEntry> load(const Bytes& bytes) {
    const TemporaryFile file(bytes);
    boot.kernel = file.path();
    return load_linux(memory, boot, state);
  }
  std::string error_of(const Bytes& bytes) {
    const auto result = load(bytes);
    return result ? "loaded" : result.error().message();
  }
  template <typename T = std::uint32_t>
  T peek(std::uint64_t address) {
    T value{};
    EXPECT_TRUE(memory.read_value(GuestPhys{address}, value));
    return value;
  }
  std::string text(std::uint64_t address) {
    std::string result;
    while (const char c = peek<char>(address++)) result += c;
    return result;
  }

  machine::GuestMemory memory;
  LinuxBoot boot;
  cpu::ArchState state;
};

TEST_F(Kernel32, PvhStartsAtItsNotesEntryInProtectedMode) {
  ASSERT_TRUE(load(elf64(true)));
  EXPECT_EQ(state.rip, load_at + 0x20);
  EXPECT_EQ(state.cr0 & (cpu::CR0_PE | cpu::CR0_PG), cpu::CR0_PE);
  EXPECT_EQ(state.segments[cpu::CS].limit, 0xffffffffu);
  EXPECT_EQ(peek(state.gpr[cpu::RBX]), 0x336ec578u);
}

TEST_F(Kernel32, PvhOf32Bits) {
  ASSERT_TRUE(load(elf32(true)));
  EXPECT_EQ(state.rip, load_at + 0x20);
}

TEST_F(Kernel32, SegmentsAreLoadedAndTheRestCleared) {
  ASSERT_TRUE(memory.write_value(GuestPhys{load_at + payload_bytes}, ~std::uint64_t{0}));
  ASSERT_TRUE(load(elf64(true)));
  EXPECT_EQ(peek<std::uint8_t>(load_at + payload_bytes - 1), 0xaa);
  EXPECT_EQ(peek<std::uint64_t>(load_at + payload_bytes), 0u);
}

TEST_F(Kernel32, PvhIsToldWhatThereIs) {
  ASSERT_TRUE(load(elf64(true)));
  const std::uint64_t info = state.gpr[cpu::RBX];
  EXPECT_EQ(text(peek<std::uint64_t>(info + 24)), "one two");
  EXPECT_EQ(peek<std::uint64_t>(info + 32), 0xe0000u);
  const auto map = peek<std::uint64_t>(info + 40);
  EXPECT_EQ(peek(info + 48), 2u);
  EXPECT_EQ(peek<std::uint64_t>(map + 24), MiB);
  EXPECT_EQ(peek<std::uint64_t>(map + 24 + 8), 15 * MiB);
  EXPECT_EQ(peek(map + 24 + 16), 1u);
}

TEST_F(Kernel32, ModulesFollowWithTheirWords) {
  const TemporaryFile initrd(Bytes(5000, std::byte{1})), module(Bytes(10, std::byte{2}));
  boot.initrd = initrd.path();
  boot.modules = {{module.path(), "root=/dev/vda"}};
  ASSERT_TRUE(load(elf64(true)));
  const std::uint64_t info = state.gpr[cpu::RBX];
  EXPECT_EQ(peek(info + 12), 2u);
  const auto rows = peek<std::uint64_t>(info + 16);
  const auto first = peek<std::uint64_t>(rows), second = peek<std::uint64_t>(rows + 32);
  EXPECT_EQ(peek<std::uint64_t>(rows + 8), 5000u);
  EXPECT_GE(first, load_at + 2 * payload_bytes);
  EXPECT_EQ(second % page_size, 0u);
  EXPECT_EQ(peek<std::uint8_t>(second + 9), 2);
  EXPECT_EQ(text(peek<std::uint64_t>(rows + 32 + 16)), "root=/dev/vda");
}

TEST_F(Kernel32, MultibootElf) {
  Bytes bytes = elf32(false);
  put_multiboot(bytes, payload_at + 0x40, 3);
  ASSERT_TRUE(load(bytes));
  EXPECT_EQ(state.rip, load_at + 0x10);
  EXPECT_EQ(state.gpr[cpu::RAX], 0x2badb002u);
  const std::uint64_t info = state.gpr[cpu::RBX];
  EXPECT_EQ(peek(info) & 0x4d, 0x4du) << "sizes, command line, modules, map";
  EXPECT_EQ(peek(info + 8), 15u * 1024) << "KiB from 1 MiB on";
  EXPECT_EQ(peek(info + 44), 48u);
  EXPECT_EQ(peek(peek(info + 48)), 20u);
}

TEST_F(Kernel32, MultibootNamesTheFilesBeforeTheirWords) {
  const TemporaryFile initrd(Bytes(10)), module(Bytes(10));
  boot.initrd = initrd.path();
  boot.modules = {{module.path(), "quiet"}};
  Bytes bytes = elf32(false);
  put_multiboot(bytes, payload_at + 0x40, 3);
  ASSERT_TRUE(load(bytes));
  const auto name = [](const std::string& path) { return path.substr(path.rfind('/') + 1); };
  const std::uint64_t info = state.gpr[cpu::RBX];
  EXPECT_EQ(text(peek(info + 16)), name(boot.kernel) + " one two");
  const std::uint64_t rows = peek(info + 24);
  EXPECT_EQ(text(peek(rows + 8)), name(initrd.path()));
  EXPECT_EQ(text(peek(rows + 16 + 8)), name(module.path()) + " quiet");
}

TEST_F(Kernel32, MultibootSaysWhoLoaded) {
  Bytes bytes = elf32(false);
  put_multiboot(bytes, payload_at + 0x40, 3);
  ASSERT_TRUE(load(bytes));
  const std::uint64_t info = state.gpr[cpu::RBX];
  EXPECT_EQ(peek(info) >> 9 & 1, 1u);
  EXPECT_EQ(text(peek(info + 64)), "Veneer");
}

TEST_F(Kernel32, MultibootWithAddressesNeedsNoElf) {
  Bytes bytes(0x1000, std::byte{0x90});
  put_multiboot(bytes, 0x100, 1u << 16);
  const std::uint32_t addresses[] = {0x300100, 0x300000, 0, 0x302000, 0x300800};
  put(bytes, 0x10c, addresses);
  ASSERT_TRUE(load(bytes));
  EXPECT_EQ(state.rip, 0x300800u);
  EXPECT_EQ(peek(0x300100), 0x1badb002u);
  EXPECT_EQ(peek<std::uint8_t>(0x300fff), 0x90);
}

TEST_F(Kernel32, ARealModeKernelAt16KiBIsToldElsewhere) {
  Bytes bytes(0x600, std::byte{0x55});
  put_multiboot(bytes, 0, 1u << 16);
  const std::uint32_t addresses[] = {0x4000, 0x4000, 0, 0x9000, 0x4020};
  for (std::size_t i = 0; i < 5; ++i) put(bytes, 12 + 4 * i, addresses[i]);
  const auto loaded = load(bytes);
  ASSERT_TRUE(loaded.ok()) << loaded.error().message();
  EXPECT_EQ(state.rip, 0x4020u);
  EXPECT_EQ(state.idtr.limit, 0x3ffu);
  EXPECT_EQ(peek<>(0x4200), 0x55555555u);
  const auto info = static_cast<std::uint32_t>(state.gpr[cpu::RBX]);
  EXPECT_GE(info, 0x9000u);
  EXPECT_NE(text(peek<>(info + 16)), "");
}

TEST_F(Kernel32, AKernelThatFillsLowMemory) {
  Bytes bytes(0x600, std::byte{0x55});
  put_multiboot(bytes, 0, 1u << 16);
  const std::uint32_t addresses[] = {0x4000, 0x4000, 0, 0x90000, 0x4020};
  for (std::size_t i = 0; i < 5; ++i) put(bytes, 12 + 4 * i, addresses[i]);
  EXPECT_NE(error_of(bytes).find("no room"), std::string::npos) << error_of(bytes);
}

TEST_F(Kernel32, AMultibootHeaderThatDemandsMore) {
  Bytes bytes = elf32(false);
  put_multiboot(bytes, payload_at + 0x40, 1u << 5);
  EXPECT_THAT(error_of(bytes), HasSubstr("what is not served"));
}
TEST_F(Kernel32, MultibootAddressesThatMakeNoSense) {
  Bytes bytes(0x1000);
  put_multiboot(bytes, 0x100, 1u << 16);
  const std::uint32_t addresses[] = {0x300100, 0x300101, 0, 0, 0x300800};
  put(bytes, 0x10c, addresses);
  EXPECT_THAT(error_of(bytes), HasSubstr("make no sense"));
}
TEST_F(Kernel32, ACutElfFile) {
  Bytes bytes = elf64(true);
  bytes.resize(payload_at + 1);
  EXPECT_THAT(error_of(bytes), HasSubstr("cut"));
}
TEST_F(Kernel32, AnElfFileOfAnotherMachine) {
  Bytes bytes = elf64(true);
  put(bytes, offsetof(Elf64_Ehdr, e_machine), std::uint16_t{EM_AARCH64});
  EXPECT_THAT(error_of(bytes), HasSubstr("another machine"));
}
TEST_F(Kernel32, ASegmentOutsideMemory) {
  Bytes bytes = elf64(true);
  put(bytes, sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, p_paddr), std::uint64_t{64 * MiB});
  EXPECT_THAT(error_of(bytes), HasSubstr("does not fit"));
}
TEST_F(Kernel32, AnInitrdGoesBelowAKernelAtTheEndOfMemory) {
  Bytes bytes = elf64(true);
  put(bytes, sizeof(Elf64_Ehdr) + offsetof(Elf64_Phdr, p_paddr), std::uint64_t{16 * MiB - page_size});
  const TemporaryFile initrd(Bytes(100'000, std::byte{0x55}));
  boot.initrd = initrd.path();
  const auto entry = load(bytes);
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry.value().initrd.value, MiB);
  EXPECT_EQ(peek<std::uint8_t>(MiB + 99'999), 0x55);
  EXPECT_EQ(peek<std::uint8_t>(16 * MiB - page_size), 0xaa);
  EXPECT_EQ(peek<std::uint64_t>(peek<std::uint64_t>(state.gpr[cpu::RBX] + 16)), MiB);
}
TEST_F(Kernel32, AnInitrdThatFitsNeitherAboveNorBelow) {
  Bytes bytes = elf64(true);
  const TemporaryFile initrd(Bytes(14 * MiB));
  boot.initrd = initrd.path();
  EXPECT_THAT(error_of(bytes), HasSubstr("does not fit"));
}
TEST_F(Kernel32, AnElfFileWithNeitherNoteNorHeader) { EXPECT_NE(error_of(elf64(false)), "loaded"); }
TEST_F(Kernel32, LinuxTakesNoModules) {
  FakeKernel kernel;
  const TemporaryFile module(Bytes(10));
  boot.modules = {{module.path(), ""}};
  EXPECT_THAT(error_of(kernel.bytes()), HasSubstr("--module is for"));
}

}  // namespace
}  // namespace veneer::boot
