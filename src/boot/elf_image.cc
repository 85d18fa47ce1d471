// Reading of ELF headers, program headers and notes.
#include "boot/elf_image.h"

#include <elf.h>

#include <array>
#include <cstring>
#include <span>

#include "base/bits.h"

namespace veneer::boot {

namespace {

constexpr std::size_t largest_note_segment = 64 * 1024;
constexpr unsigned most_segments = 64;
constexpr std::uint32_t XEN_ELFNOTE_PHYS32_ENTRY = 18;

template <typename T>
Result<T> read_struct(const InputFile& file, std::uint64_t offset) {
  T value{};
  TRY(const std::size_t got, file.read(offset, std::as_writable_bytes(std::span(&value, 1))));
  if (got < sizeof value) return Error("it is cut: a header of the ELF file is missing");
  return value;
}

/// The notes of a PT_NOTE segment, each with name and contents padded to 4 bytes.
void read_notes(std::span<const std::byte> bytes, ElfImage& image) {
  for (std::size_t at = 0; at + sizeof(Elf32_Nhdr) <= bytes.size();) {
    Elf32_Nhdr note;
    std::memcpy(&note, bytes.data() + at, sizeof note);
    const std::uint64_t name = at + sizeof note, contents = name + align_up(std::uint64_t{note.n_namesz}, 4);
    const std::uint64_t end = contents + align_up(std::uint64_t{note.n_descsz}, 4);
    if (end > bytes.size()) return;
    const bool xen = note.n_namesz == 4 && std::memcmp(bytes.data() + name, "Xen", 4) == 0;
    if (xen && note.n_type == XEN_ELFNOTE_PHYS32_ENTRY && note.n_descsz >= 4) {
      std::uint32_t entry;
      std::memcpy(&entry, bytes.data() + contents, sizeof entry);
      image.pvh_entry = entry;
    }
    at = end;
  }
}

template <typename Header, typename ProgramHeader>
Result<ElfImage> read_as(const InputFile& file) {
  TRY(const Header header, read_struct<Header>(file, 0));
  if (header.e_machine != EM_386 && header.e_machine != EM_X86_64) return Error("it is an ELF file of another machine");
  if (header.e_type != ET_EXEC && header.e_type != ET_DYN) return Error("it is an ELF file, but not executable");
  if (header.e_phentsize != sizeof(ProgramHeader) || header.e_phnum == 0 || header.e_phnum > most_segments)
    return Error("it is damaged: its ELF program headers make no sense");
  ElfImage image;
  image.entry = header.e_entry;
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    TRY(const ProgramHeader row, read_struct<ProgramHeader>(file, header.e_phoff + i * sizeof(ProgramHeader)));
    if (row.p_type == PT_NOTE && row.p_filesz <= largest_note_segment) {
      std::vector<std::byte> notes(row.p_filesz);
      TRY(const std::size_t got, file.read(row.p_offset, notes));
      read_notes(std::span(notes).first(got), image);
    }
    if (row.p_type != PT_LOAD || row.p_memsz == 0) continue;
    if (row.p_filesz > row.p_memsz || row.p_offset > file.size_bytes() ||
        row.p_filesz > file.size_bytes() - row.p_offset)
      return Error("it is cut or damaged: a segment of the ELF file is not in it");
    image.segments.push_back({row.p_offset, row.p_filesz, row.p_paddr, row.p_memsz});
  }
  if (image.segments.empty()) return Error("it is an ELF file with nothing to load");
  return image;
}

Result<std::array<unsigned char, EI_NIDENT>> read_ident(const InputFile& file) {
  return read_struct<std::array<unsigned char, EI_NIDENT>>(file, 0);
}

}  // namespace

bool is_elf(const InputFile& file) {
  const auto ident = read_ident(file);
  return ident && std::memcmp(ident.value().data(), ELFMAG, SELFMAG) == 0;
}

Result<ElfImage> read_elf(const InputFile& file) {
  TRY(const auto ident, read_ident(file));
  if (ident[EI_DATA] != ELFDATA2LSB) return Error("it is an ELF file of another byte order");
  if (ident[EI_CLASS] == ELFCLASS32) return read_as<Elf32_Ehdr, Elf32_Phdr>(file);
  if (ident[EI_CLASS] == ELFCLASS64) return read_as<Elf64_Ehdr, Elf64_Phdr>(file);
  return Error("it is damaged: its ELF class is unknown");
}

}  // namespace veneer::boot
