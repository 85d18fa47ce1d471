// What a Debian image gets besides its packages.
#include "image/debian_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <sstream>

namespace veneer::image {
namespace {

constexpr const char* serial_setup = "serial --unit=0 --speed=115200";

/// Until update-grub writes another one (with the next kernel): it cannot look at the disk from outside of the system.
std::string grub_cfg(const DiskNames& names) {
  const auto entry = [&](const char* title, const char* words) {
    return fmt::format(R"(menuentry '{}' --class debian {{
  linux /vmlinuz root=UUID={} ro {}
  initrd /initrd.img
}}
)",
                       title, names.root.text(), words);
  };
  return fmt::format(R"(# Written by veneer image build; update-grub replaces it, with settings from /etc/default/grub.
{}
terminal_input console serial
terminal_output serial
set default=0
set timeout=2
search --no-floppy --fs-uuid --set=root {}
)",
                     serial_setup, names.root.text()) +
         entry("Debian GNU/Linux", "console=tty0 console=ttyS0,115200 quiet") +
         entry("Debian GNU/Linux (recovery mode)", "console=tty0 console=ttyS0,115200 single");
}

constexpr const char* default_grub = R"(GRUB_DEFAULT=0
GRUB_TIMEOUT=2
GRUB_DISTRIBUTOR=Debian
GRUB_CMDLINE_LINUX_DEFAULT="quiet"
GRUB_CMDLINE_LINUX="console=tty0 console=ttyS0,115200"
GRUB_TERMINAL_INPUT="console serial"
GRUB_TERMINAL_OUTPUT="serial"
GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"
GRUB_DISABLE_OS_PROBER=true
)";

constexpr const char* network = R"([Match]
Type=ether

[Network]
DHCP=yes

[DHCPv4]
ClientIdentifier=mac
)";

/// Each machine made from the image makes a key of its own. None for RSA: that took 8 to 20 s of the first start.
constexpr const char* ssh_key_at_start = R"([Service]
ExecStartPre=
ExecStartPre=/bin/sh -c '[ -e "$1" ] || ssh-keygen -q -t ed25519 -N "" -f "$1"' sh /etc/ssh/ssh_host_ed25519_key
ExecStartPre=/usr/sbin/sshd -t
)";

/// Modules in GRUB's core images: enough to reach the file system and to boot from it without loading another one.
constexpr const char* grub_modules =
    "part_gpt part_msdos ext2 search search_fs_uuid search_label configfile normal linux serial terminal gzio echo "
    "test "
    "ls cat halt reboot minicmd all_video";

std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text)
    if (c == '\'')
      out += "'\\''";
    else
      out += c;
  return out + "'";
}

}  // namespace

std::string DiskNames::efi_uuid() const { return fmt::format("{:04X}-{:04X}", efi_serial >> 16, efi_serial & 0xffff); }

std::vector<SystemFile> debian_files(const DebianOptions& options, const DiskNames& names) {
  return {
      {"etc/hostname", options.hostname + "\n"},
      {"etc/hosts", fmt::format("127.0.0.1\tlocalhost\n127.0.1.1\t{}\n::1\t\tlocalhost ip6-localhost ip6-loopback\n"
                                "ff02::1\t\tip6-allnodes\nff02::2\t\tip6-allrouters\n",
                                options.hostname)},
      {"etc/fstab", fmt::format("UUID={} / ext4 errors=remount-ro 0 1\nUUID={} /boot/efi vfat umask=0077,nofail 0 2\n",
                                names.root.text(), names.efi_uuid())},
      {"etc/default/grub", default_grub},
      {"etc/default/locale", "LANG=C.UTF-8\n"},
      {"etc/systemd/network/80-ethernet.network", network},
      {"etc/systemd/system/ssh.service.d/host-key.conf", ssh_key_at_start},
      {"boot/grub/grub.cfg", grub_cfg(names)},
      {"boot/grub/find-root.cfg", fmt::format("search.fs_uuid {} root\nset prefix=($root)/boot/grub\n"
                                              "configfile ($root)/boot/grub/grub.cfg\n",
                                              names.root.text())},
  };
}

std::string debian_script(const DebianOptions& options, const DiskNames&) {
  std::string script = "set -eu\nexport PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8\ncd /\n";
  const std::string& user = options.user;
  script += fmt::format("useradd --create-home --shell /bin/bash --groups sudo,adm,systemd-journal {}\n", user);
  if (!options.password.empty())
    script += fmt::format("printf '%s\\n' {} | chpasswd\n", quoted(user + ":" + options.password));
  if (!options.ssh_keys.empty()) {
    const std::string folder = fmt::format("/home/{}/.ssh", user);
    script += fmt::format("mkdir -m 700 {}\n", folder);
    for (const std::string& key : options.ssh_keys)
      script += fmt::format("printf '%s\\n' {} >>{}/authorized_keys\n", quoted(key), folder);
    script += fmt::format("chmod 600 {0}/authorized_keys\nchown -R {1}:{1} {0}\n", folder, user);
  }
  // Nobody could answer when sudo asks for a password that does not exist.
  if (options.password.empty())
    script += fmt::format("echo '{} ALL=(ALL:ALL) NOPASSWD: ALL' >/etc/sudoers.d/{}\nchmod 440 /etc/sudoers.d/{}\n",
                          user, user, user);
  script += R"(rm -f /etc/ssh/ssh_host_*
systemctl enable systemd-networkd.service systemd-resolved.service
systemctl disable systemd-networkd-wait-online.service
ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf
ln -sf /usr/share/zoneinfo/Etc/UTC /etc/localtime
mkdir -p /boot/efi
cp -r /usr/lib/grub/i386-pc /usr/lib/grub/x86_64-efi /boot/grub/
)";
  script += fmt::format(
      "grub-mkimage -O i386-pc -p /boot/grub -c /boot/grub/find-root.cfg -o /boot/grub/i386-pc/core.img biosdisk {0}\n"
      "grub-mkimage -O x86_64-efi -p /boot/grub -c /boot/grub/find-root.cfg -o /boot/grub/x86_64-efi/core.efi "
      "fat efi_gop efi_uga {0}\n",
      grub_modules);
  return script;
}

std::vector<std::string> debian_packages(const DebianOptions& options) {
  std::vector<std::string> packages = {"linux-image-amd64",
                                       "initramfs-tools",
                                       "zstd",
                                       "systemd-sysv",
                                       "dbus",
                                       "systemd-resolved",
                                       "systemd-timesyncd",
                                       "libpam-systemd",
                                       "grub2-common",
                                       "grub-pc-bin",
                                       "grub-efi-amd64-bin",
                                       "openssh-server",
                                       "sudo",
                                       "iproute2",
                                       "iputils-ping",
                                       "ca-certificates",
                                       "dosfstools",
                                       "less"};
  packages.insert(packages.end(), options.packages.begin(), options.packages.end());
  return packages;
}

std::vector<std::string> debian_sources(const DebianOptions& options, const std::string& index_targets) {
  const std::string& suite = options.suite;
  std::vector<std::string> sources;
  if (!options.mirror.empty()) return {fmt::format("deb {} {} main", options.mirror, suite)};
  std::set<std::string> releases;
  std::istringstream lines(index_targets);
  std::string uri, release, component;
  while (lines >> uri >> release >> component) {
    if (component != "main" || !uri.starts_with("http")) continue;
    if (release != suite && release != suite + "-updates" && release != suite + "-security") continue;
    if (releases.insert(release).second) sources.push_back(fmt::format("deb {} {} main", uri, release));
  }
  if (releases.contains(suite)) return sources;
  sources = {fmt::format("deb http://deb.debian.org/debian {} main", suite)};
  if (suite != "sid" && suite != "unstable") {
    sources.push_back(fmt::format("deb http://deb.debian.org/debian {}-updates main", suite));
    sources.push_back(fmt::format("deb http://deb.debian.org/debian-security {}-security main", suite));
  }
  return sources;
}

}  // namespace veneer::image
