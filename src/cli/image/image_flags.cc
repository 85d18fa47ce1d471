// The flags of `veneer image ...` (like options.cc, this knows CLI11).
#include "cli/image/image_flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <fstream>
#include <memory>

#include "cli/size.h"

namespace veneer::cli {
namespace {

constexpr const char* build_footer =
    R"(Examples:
  veneer image build debian -o debian.qcow2
  veneer image build debian -o web.qcow2 --size 20G --hostname web --ssh-key ~/.ssh/id_ed25519.pub --packages nginx,vim
  veneer run debian.qcow2 --memory 1G --net user,hostfwd=tcp:127.0.0.1:2222-:22
The disk boots through SeaBIOS and UEFI, and has its console on the serial port, an ssh server, DHCP, and a user with
sudo. Without --password and --ssh-key the user gets a new password, which is printed at the end.
It needs mmdebstrap, e2fsprogs and, without root, uidmap and a range of ids in /etc/subuid. Nothing is mounted, no loop
device is used. TMPDIR (or /var/tmp) must have room: about 3 GB. Ctrl-C stops it and leaves nothing behind.)";

/// The keys in a file: public ones, one a line.
std::vector<std::string> read_keys(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw CLI::ValidationError("--ssh-key", fmt::format("cannot read {}", path));
  std::vector<std::string> keys;
  for (std::string line; std::getline(file, line);) {
    if (line.find("PRIVATE KEY") != std::string::npos)
      throw CLI::ValidationError("--ssh-key",
                                 fmt::format("{} is a private key: give the public one ({}.pub)", path, path));
    if (!line.empty() && line.front() != '#') keys.push_back(line);
  }
  if (keys.empty()) throw CLI::ValidationError("--ssh-key", fmt::format("there is no key in {}", path));
  return keys;
}

void add_build_options(CLI::App& build, ImageBuild& options, std::string& system) {
  image::DebianOptions& debian = options.debian;
  build.footer(build_footer);
  build.add_option("SYSTEM", system, "What to install: debian")->required()->type_name("");
  build.add_option("--output,-o", options.output, "The new image; appears whole, when all is done")
      ->required()
      ->type_name("FILE");
  build
      .add_option_function<std::string>(
          "--size",
          [&debian](const std::string& text) {
            auto size = parse_size(text);
            if (!size) throw CLI::ValidationError("--size", size.error().message());
            debian.size_bytes = size.value();
          },
          "Size of the disk (default 8G); the file takes what is used")
      ->type_name("SIZE");
  build
      .add_option_function<std::string>(
          "--format,-f",
          [&options](const std::string& text) {
            auto format = disk::parse_format(text);
            if (!format || format.value() == disk::Format::Nbd)
              throw CLI::ValidationError("--format", fmt::format("\"{}\" is neither qcow2 nor raw", text));
            options.format = format.value();
          },
          "Format of the image: qcow2 (the default), raw")
      ->type_name("FORMAT");
  build.add_option("--suite", debian.suite, "Which Debian (default bookworm)")->type_name("NAME");
  build.add_option("--mirror", debian.mirror, "Where from (default: as this host's apt, else deb.debian.org)")
      ->type_name("URL");
  build.add_option("--variant", debian.variant, "How much: minbase, important (the default), standard")
      ->type_name("NAME");
  build.add_option("--packages", debian.packages, "More packages, with commas between")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("LIST");
  build.add_option("--hostname", debian.hostname, "The system's name (default debian)")->type_name("NAME");
  build.add_option("--user", debian.user, "The user's name (default debian)")->type_name("NAME");
  build.add_option("--password", debian.password, "The user's password")->type_name("TEXT");
  build
      .add_option_function<std::vector<std::string>>(
          "--ssh-key",
          [&debian](const std::vector<std::string>& paths) {
            for (const std::string& path : paths)
              for (std::string& key : read_keys(path)) debian.ssh_keys.push_back(std::move(key));
          },
          "The user's public key for ssh (may be given several times); without a password sudo asks for none")
      ->allow_extra_args(false)
      ->type_name("FILE");
  build.add_flag("--replace", options.replace, "Replace an existing image");
  build.add_flag("--verbose,-v", options.verbose, "Show all that apt, dpkg and the others print");
}

}  // namespace

void add_image_command(CLI::App& app, std::optional<ImageBuild>& chosen) {
  CLI::App* image = app.add_subcommand("image", "Build disk images with a system on them");
  image->require_subcommand(1);
  const auto options = std::make_shared<ImageBuild>();
  const auto system = std::make_shared<std::string>();
  CLI::App* build = image->add_subcommand("build", "Install a system into a new disk image");
  add_build_options(*build, *options, *system);
  build->callback([&chosen, options, system] {
    if (*system != "debian")
      throw CLI::ValidationError("SYSTEM", fmt::format("\"{}\" cannot be built (known: debian)", *system));
    if (const auto fine = image::check(options->debian); !fine) throw CLI::ValidationError(fine.error().message());
    chosen = *options;
  });
}

}  // namespace veneer::cli
