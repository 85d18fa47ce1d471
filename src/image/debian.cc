// Builds a disk with a bootable Debian system on it. docs/image.md says why it goes this way.
#include "image/debian.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <span>
#include <sstream>

#include "base/fd.h"
#include "image/command.h"
#include "image/debian_files.h"
#include "image/fat.h"
#include "image/gpt.h"
#include "image/grub_boot.h"
#include "image/package_progress.h"

namespace veneer::image {
namespace {

constexpr std::uint64_t size_min = 2 * GiB;
// In sectors: the partitions begin at whole MiB.
constexpr std::uint64_t bios_first = 2048, bios_sectors = 2048;
constexpr std::uint64_t efi_first = bios_first + bios_sectors, efi_sectors = 64 * MiB / sector_bytes;
constexpr std::uint64_t root_first = efi_first + efi_sectors;
constexpr std::uint64_t alignment = MiB / sector_bytes;

struct Tool {
  const char* program;
  const char* package;
  bool unprivileged_only;
};
constexpr std::array<Tool, 6> tools = {{{"mmdebstrap", "mmdebstrap", false},
                                        {"mke2fs", "e2fsprogs", false},
                                        {"tar", "tar", false},
                                        {"chroot", "coreutils", false},
                                        {"unshare", "util-linux", true},
                                        {"newuidmap", "uidmap", true}}};

bool is_root() { return ::geteuid() == 0; }

/// In front of a command that works on the system's files: it sees itself as root, and the files' owners as they will
/// be in the guest. Who is root already needs no namespace.
std::vector<std::string> as_root(std::vector<std::string> argv) {
  if (is_root()) return argv;
  std::vector<std::string> all = {"unshare", "--map-root-user", "--map-auto", "--"};
  all.insert(all.end(), argv.begin(), argv.end());
  return all;
}

bool is_name(const std::string& text, std::size_t longest, bool capitals) {
  return !text.empty() && text.size() <= longest && text.front() != '-' && text.back() != '-' &&
         std::ranges::all_of(text, [capitals](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || (capitals && c >= 'A' && c <= 'Z');
         });
}

Result<void> write_file(const std::string& path, std::string_view content) {
  std::error_code failed;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), failed);
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << content;
  file.close();
  if (!file) return Error::from_errno(fmt::format("writing {}", path), errno);
  return {};
}

Result<std::vector<std::uint8_t>> read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::vector<std::uint8_t> content((std::istreambuf_iterator<char>(file)), {});
  if (!file || content.empty()) return Error::from_errno(fmt::format("reading {}", path), errno);
  return content;
}

Result<void> write_at(const Fd& file, std::uint64_t sector, std::span<const std::uint8_t> bytes) {
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t n = ::pwrite(file.get(), bytes.data() + done, bytes.size() - done,
                               static_cast<off_t>(sector * sector_bytes + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Error::from_errno("writing the disk", errno);
    done += static_cast<std::size_t>(n);
  }
  return {};
}

/// One build. The steps are called in the order in which they stand here.
class Build {
 public:
  Build(const DebianOptions& options, const std::string& work, const BuildWatch& watch)
      : options_(options), watch_(watch), work_(work), root_(work + "/root"), raw_(work + "/disk.raw") {
    std::array<std::uint8_t, 16> random = Guid::random().bytes;
    names_.root = Guid::random();
    names_.efi_serial = static_cast<std::uint32_t>(random[0] | random[1] << 8 | random[2] << 16) << 8 | random[3];
    root_last_ = (options.size_bytes / sector_bytes - gpt_tail_sectors) / alignment * alignment - 1;
  }

  Result<std::string> run() {
    watch_.stage("installing packages");
    TRY_VOID(install());
    watch_.stage("configuring the system");
    TRY_VOID(configure());
    watch_.stage("reading GRUB's images");
    TRY_VOID(fetch_boot_loader());
    watch_.stage("making the file system");
    TRY_VOID(make_root_file_system());
    watch_.stage("making the disk");
    TRY_VOID(make_disk());
    return raw_;
  }

 private:
  CommandWatch commands(std::function<void(std::string_view)> more = {}) const {
    CommandWatch watch;
    watch.cancelled = watch_.cancelled;
    watch.line = [this, more](std::string_view line) {
      watch_.output(line);
      if (more) more(line);
    };
    return watch;
  }

  /// mmdebstrap's archive goes through a pipe into tar, which gives the files the owners that the system shall have.
  Result<void> install() {
    const auto targets = output_of(
        {"apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Identifier: Packages"});
    std::string packages;
    for (const std::string& package : debian_packages(options_)) packages += (packages.empty() ? "" : ",") + package;
    Command bootstrap{{"mmdebstrap", is_root() ? "--mode=root" : "--mode=unshare", "--format=tar", "--verbose",
                       "--variant=" + options_.variant, "--include=" + packages},
                      {"TMPDIR=" + work_, "LC_ALL=C.UTF-8"}};
    if (const auto proxy = apt_proxy(); !proxy.empty())
      bootstrap.argv.push_back(fmt::format("--aptopt=Acquire::http::Proxy \"{}\"", proxy));
    bootstrap.argv.insert(bootstrap.argv.end(), {options_.suite, "-"});
    for (const std::string& source : debian_sources(options_, targets ? targets.value() : ""))
      bootstrap.argv.push_back(source);

    if (::mkdir(root_.c_str(), 0755) != 0) return Error::from_errno(fmt::format("making {}", root_), errno);
    // devtmpfs fills /dev, and only the real root could make its nodes.
    const Command unpack{as_root({"tar", "--extract", "--numeric-owner", "--same-owner", "--preserve-permissions",
                                  "--xattrs", "--xattrs-include=*", "--exclude=./dev/*", "--directory", root_}),
                         {}};
    PackageProgress progress;
    auto done = run_commands({bootstrap, unpack}, "", commands([&](std::string_view line) {
                               if (const std::string text = progress.take(line); !text.empty()) watch_.detail(text);
                             }));
    if (!done) return std::move(done).error().context("installing packages");
    return {};
  }

  static std::string apt_proxy() {
    const auto proxy = output_of({"apt-config", "shell", "proxy", "Acquire::http::Proxy"});
    if (!proxy) return "";
    const std::size_t begin = proxy.value().find('\'');  // proxy='http://...'
    const std::size_t end = proxy.value().rfind('\'');
    return begin == end ? "" : proxy.value().substr(begin + 1, end - begin - 1);
  }

  Result<void> configure() {
    for (const SystemFile& file : debian_files(options_, names_))
      TRY_VOID(write_file(fmt::format("{}/{}", root_, file.path), file.content));
    auto done =
        run_commands({{as_root({"chroot", root_, "/bin/sh"}), {}}}, debian_script(options_, names_), commands());
    if (!done) return std::move(done).error().context("configuring the system");
    return {};
  }

  Result<void> fetch_boot_loader() {
    const std::string grub = root_ + "/boot/grub";
    TRY(const auto boot_img, read_file(grub + "/i386-pc/boot.img"));
    TRY(const auto core_img, read_file(grub + "/i386-pc/core.img"));
    TRY(grub_, link_grub(boot_img, core_img, bios_first, bios_sectors));
    TRY(efi_loader_, read_file(grub + "/x86_64-efi/core.efi"));
    return {};
  }

  Result<void> make_root_file_system() {
    // What a build leaves behind, if the namespace's root could write there.
    TRY_VOID(run_commands({{as_root({"find", root_ + "/dev", root_ + "/proc", root_ + "/sys", root_ + "/run",
                                     root_ + "/tmp", "-xdev", "-mindepth", "1", "-delete"}),
                            {}}},
                          "", commands()));
    const Fd file(::open(raw_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file.valid() || ::ftruncate(file.get(), static_cast<off_t>(options_.size_bytes)) != 0)
      return Error::from_errno(fmt::format("making {}", raw_), errno);
    // All features by name: GRUB 2.06 cannot read what newer mke2fs turn on by themselves.
    const std::string config = work_ + "/mke2fs.conf";
    TRY_VOID(write_file(config,
                        "[defaults]\n"
                        "\tbase_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr,"
                        "has_journal,extent,huge_file,flex_bg,64bit,dir_nlink,extra_isize,metadata_csum\n"
                        "\tdefault_mntopts = acl,user_xattr\n\tenable_periodic_fsck = 0\n"
                        "\tblocksize = 4096\n\tinode_size = 256\n\tinode_ratio = 16384\n"
                        "[fs_types]\n\text4 = {\n\t}\n"));
    const std::uint64_t kib = (root_last_ + 1 - root_first) * sector_bytes / KiB;
    auto done = run_commands(
        {{as_root({"mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", "-U", names_.root.text(), "-E",
                   fmt::format("offset={},lazy_itable_init=0,lazy_journal_init=0", root_first * sector_bytes), "-d",
                   root_, raw_, fmt::format("{}k", kib)}),
          {"MKE2FS_CONFIG=" + config}}},
        "", commands());
    if (!done) return std::move(done).error().context(fmt::format("a file system of {} MiB for the system", kib / KiB));
    return {};
  }

  Result<void> make_disk() {
    const Fd file(::open(raw_.c_str(), O_RDWR | O_CLOEXEC));
    if (!file.valid()) return Error::from_errno(fmt::format("opening {}", raw_), errno);
    FatVolume efi{efi_sectors * sector_bytes, "EFI", names_.efi_serial, static_cast<std::uint32_t>(efi_first)};
    TRY(const auto fat, make_fat(efi, {{"EFI/BOOT/BOOTX64.EFI", {efi_loader_.begin(), efi_loader_.end()}}}));
    const auto partition = [](std::string_view type, std::uint64_t first, std::uint64_t last, const char* name) {
      return Partition{Guid::of(type), Guid::random(), first, last, name};
    };
    const std::uint64_t sectors = options_.size_bytes / sector_bytes;
    GptTables tables = make_gpt(sectors, Guid::random(),
                                {partition(partition_type::bios_boot, bios_first, efi_first - 1, "BIOS boot"),
                                 partition(partition_type::efi_system, efi_first, root_first - 1, "EFI system"),
                                 partition(partition_type::linux_root_x86_64, root_first, root_last_, "root")});
    std::ranges::copy(grub_.boot_code, tables.head.begin());
    TRY_VOID(write_at(file, 0, tables.head));
    TRY_VOID(write_at(file, bios_first, grub_.core));
    TRY_VOID(write_at(file, efi_first, fat));
    return write_at(file, sectors - gpt_tail_sectors, tables.tail);
  }

  const DebianOptions& options_;
  const BuildWatch& watch_;
  const std::string work_, root_, raw_;
  DiskNames names_;
  std::uint64_t root_last_ = 0;
  GrubBoot grub_;
  std::vector<std::uint8_t> efi_loader_;
};

}  // namespace

Result<void> check(const DebianOptions& options) {
  if (options.size_bytes < size_min || options.size_bytes % MiB != 0)
    return Error("a Debian system needs a disk of at least 2G, in whole MiB (--size)");
  if (!is_name(options.user, 32, false) || (options.user.front() >= '0' && options.user.front() <= '9'))
    return Error(fmt::format("\"{}\" is no user name: small letters, digits and -", options.user));
  if (options.user == "root") return Error("root is there anyway (locked): choose another user, who gets sudo");
  if (!is_name(options.hostname, 63, true)) return Error(fmt::format("\"{}\" is no host name", options.hostname));
  if (!is_name(options.suite, 32, false)) return Error(fmt::format("\"{}\" is no suite of Debian's", options.suite));
  constexpr std::array variants = {"minbase", "important", "standard"};
  if (std::ranges::find(variants, options.variant) == variants.end())
    return Error(fmt::format("\"{}\" is no variant (known: minbase, important, standard)", options.variant));
  for (const std::string& text : {options.password, options.mirror})
    if (text.find('\n') != std::string::npos) return Error("a line break in a password or mirror");
  for (const std::string& package : options.packages)
    if (package.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789+-.:/") != std::string::npos)
      return Error(fmt::format("\"{}\" is no name of a package", package));
  return {};
}

Result<void> check_host() {
  std::set<std::string> packages, programs;
  for (const Tool& tool : tools) {
    if ((tool.unprivileged_only && is_root()) || !find_program(tool.program).empty()) continue;
    programs.insert(tool.program);
    packages.insert(tool.package);
  }
  if (!programs.empty())
    return Error(fmt::format("this host lacks {}. Install what has it: apt-get install {}", fmt::join(programs, ", "),
                             fmt::join(packages, " ")));
  if (is_root()) return {};
  if (auto tried = run_commands({{as_root({"true"}), {}}}, "", {}); !tried)
    return std::move(tried).error().context(
        "this host gives no user namespace with its own range of user ids. /etc/subuid and /etc/subgid need a line for "
        "you (usermod --add-subuids 100000-165535 --add-subgids 100000-165535 NAME), and the host has to permit user "
        "namespaces (sysctl kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns); or build "
        "as root");
  return {};
}

Result<WorkFolder> WorkFolder::make() {
  const char* set = std::getenv("TMPDIR");
  std::string path = fmt::format("{}/veneer-image-XXXXXX", set != nullptr && *set != '\0' ? set : "/var/tmp");
  if (::mkdtemp(path.data()) == nullptr)
    return Error::from_errno(fmt::format("making a folder {} (TMPDIR says where)", path), errno);
  WorkFolder folder(path);
  // The namespace of mmdebstrap is not ours: its users have to find their folder in here.
  if (::chmod(path.c_str(), 0755) != 0) return Error::from_errno(fmt::format("opening {} for others", path), errno);
  return folder;
}

WorkFolder::~WorkFolder() {
  if (path_.empty()) return;
  (void)run_commands({{as_root({"rm", "-rf", "--one-file-system", path_}), {}}}, "", {});
}

Result<std::string> build_debian(const DebianOptions& options, const WorkFolder& work, const BuildWatch& watch) {
  TRY_VOID(check(options));
  TRY_VOID(check_host());
  return Build(options, work.path(), watch).run();
}

}  // namespace veneer::image
