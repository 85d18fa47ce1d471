// The flags of `veneer disk ...` (like options.cc, this knows CLI11).
#include "cli/disk/disk_flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "cli/size.h"

namespace veneer::cli {
namespace {

constexpr const char* disk_footer =
    R"(Examples:
  veneer disk create system.qcow2 20G
  veneer disk create overlay.qcow2 -b system.qcow2 -F qcow2
  veneer disk convert image.raw image.qcow2
  veneer disk check --repair leaks system.qcow2
Each has its own help: veneer disk create --help)";

constexpr const char* check_footer =
    R"(Exit status:
  0  the image is in order (or was put in order)
  1  it could not be checked
  3  it has leaks only: space that is counted as used, harmless (--repair leaks gives it back)
  4  it is damaged (--repair all mends what can be mended; make a copy first))";

template <typename T, typename Parser>
auto value_into(T& target, const char* flag, Parser parser) {
  return [&target, flag, parser](const std::string& text) {
    auto result = parser(text);
    if (!result) throw CLI::ValidationError(flag, result.error().message());
    target = std::move(result).value();
  };
}

Result<std::uint32_t> parse_version(const std::string& text) {
  if (text == "2" || text == "0.10") return 2u;
  if (text == "3" || text == "1.1") return 3u;
  return Error(fmt::format("\"{}\" is no version of qcow2 (known: 2, 3)", text));
}

Result<disk::qcow2::Compression> parse_compression(const std::string& text) {
  if (text == "zlib") return disk::qcow2::Compression::Zlib;
  if (text == "zstd") return disk::qcow2::Compression::Zstd;
  return Error(fmt::format("\"{}\" is not a compression (known: zlib, zstd)", text));
}

Result<Preallocation> parse_preallocation(const std::string& text) {
  if (text == "off") return Preallocation::Off;
  if (text == "metadata") return Preallocation::Metadata;
  if (text == "full") return Preallocation::Full;
  return Error(fmt::format("\"{}\" is not a preallocation (known: off, metadata, full)", text));
}

Result<disk::qcow2::Repair> parse_repair(const std::string& text) {
  if (text == "leaks") return disk::qcow2::Repair::Leaks;
  if (text == "all") return disk::qcow2::Repair::All;
  return Error(fmt::format("\"{}\" is not a repair (known: leaks, all)", text));
}

Result<disk::Format> parse_image_format(const std::string& text) { return disk::parse_format(text); }

void add_format(CLI::App& command, const char* flags, std::optional<disk::Format>& format, const char* what) {
  command.add_option_function<std::string>(flags, value_into(format, "--format", parse_image_format), what)
      ->type_name("FORMAT");
}

void add_image(CLI::App& command, std::string& image) {
  command.add_option("IMAGE", image, "The image file")->required()->type_name("");
}

/// How a new image shall be.
void add_new_image(CLI::App& command, const char* format_flags, NewImage& like) {
  command
      .add_option_function<std::string>(format_flags, value_into(like.format, format_flags, parse_image_format),
                                        "Format of the new image: qcow2 (the default), raw")
      ->type_name("FORMAT");
  command
      .add_option_function<std::string>(
          "--cluster-size",
          value_into(like.cluster_bytes, "--cluster-size", [](const std::string& text) { return parse_size(text); }),
          "qcow2: unit of allocation, 512 to 2M (default 64K)")
      ->type_name("SIZE");
  command.add_option("--refcount-bits", like.refcount_bits, "qcow2: width of refcounts, 1 to 64 (default 16)")
      ->type_name("N");
  command
      .add_option_function<std::string>("--compat", value_into(like.version, "--compat", parse_version),
                                        "qcow2: version 2 or 3 (the default)")
      ->type_name("VERSION");
  command
      .add_option_function<std::string>("--compression",
                                        value_into(like.compression, "--compression", parse_compression),
                                        "qcow2: of compressed clusters: zlib (the default), zstd")
      ->type_name("KIND");
}

CLI::App* add_create(CLI::App& disk, DiskCreate& create) {
  CLI::App* command = disk.add_subcommand("create", "Make a new, empty image");
  add_image(*command, create.image);
  command
      ->add_option_function<std::string>(
          "SIZE",
          [&create](const std::string& text) {
            auto size = parse_size(text);
            if (!size) throw CLI::ValidationError("SIZE", size.error().message());
            create.size_bytes = size.value();
          },
          "Size of the disk: 20G, 512M (default with -b: that of the backing file)")
      ->type_name("");
  add_new_image(*command, "--format,-f", create.like);
  command->add_flag("--lazy-refcounts", create.like.lazy_refcounts, "qcow2: allow programs to count late");
  command
      ->add_option("--backing,-b", create.backing,
                   "qcow2: image below; a relative name counts from the new image's folder")
      ->type_name("FILE");
  add_format(*command, "--backing-format,-F", create.backing_format, "Format of the backing file: qcow2, raw");
  command
      ->add_option_function<std::string>("--preallocation",
                                         value_into(create.preallocation, "--preallocation", parse_preallocation),
                                         "off (the default), metadata (tables only), full (take all space)")
      ->type_name("HOW");
  return command;
}

CLI::App* add_convert(CLI::App& disk, DiskConvert& convert) {
  CLI::App* command = disk.add_subcommand("convert", "Copy an image, with all below it, into a new one");
  command->add_option("SOURCE", convert.source, "What to copy: a file, or the address of an NBD export")
      ->required()
      ->type_name("");
  command->add_option("TARGET", convert.target, "The new image; appears whole, when all is done")
      ->required()
      ->type_name("");
  add_format(*command, "--format,-f", convert.source_format, "Format of the source (default: found out)");
  add_new_image(*command, "--output-format,-O", convert.like);
  command->add_flag("--compress,-c", convert.compress, "qcow2: compress");
  command->add_flag("--replace", convert.replace, "Replace an existing target");
  command->add_flag("--no-sync", convert.no_sync, "Do not wait until the target is safely on the host's disk");
  command->add_option("--threads", convert.threads, "Threads (default: twice the number of CPUs, at most 8)")
      ->check(CLI::Range(1u, 64u).description(""))
      ->type_name("N");
  return command;
}

CLI::App* add_resize(CLI::App& disk, DiskResize& resize) {
  CLI::App* command = disk.add_subcommand("resize", "Change the size of an image's disk");
  add_image(*command, resize.image);
  command
      ->add_option_function<std::string>(
          "SIZE",
          [&resize](const std::string& text) {
            resize.way = text.starts_with('+')   ? DiskResize::Way::By
                         : text.starts_with('-') ? DiskResize::Way::ByLess
                                                 : DiskResize::Way::To;
            auto size = parse_size(resize.way == DiskResize::Way::To ? text : text.substr(1));
            if (!size) throw CLI::ValidationError("SIZE", size.error().message());
            resize.bytes = size.value();
          },
          "New size, or +SIZE to add (behind --: -SIZE to take away)")
      ->required()
      ->type_name("");
  add_format(*command, "--format,-f", resize.format, "Format of the image (default: found out)");
  command->add_flag("--shrink", resize.shrink, "Allow to make it smaller: what lies beyond is lost");
  return command;
}

CLI::App* add_rebase(CLI::App& disk, DiskRebase& rebase) {
  CLI::App* command = disk.add_subcommand("rebase", "Give an overlay another backing file; its content stays the same");
  add_image(*command, rebase.image);
  command->add_option("--backing,-b", rebase.backing, "The new one; \"\": none, the image stands alone then")
      ->required()
      ->type_name("FILE");
  add_format(*command, "--backing-format,-F", rebase.backing_format, "Its format: qcow2, raw");
  command->add_flag("--only-name", rebase.only_name,
                    "Change the name only, compare nothing: for a backing file that was moved");
  return command;
}

}  // namespace

void add_disk_command(CLI::App& app, std::optional<DiskOptions>& chosen) {
  CLI::App* disk = app.add_subcommand("disk", "Make, inspect, check and convert disk images");
  disk->footer(disk_footer);
  disk->require_subcommand(1);
  // Options live as long as the parser: its callbacks hold them.
  const auto choose = [&chosen](CLI::App* command, auto options) {
    command->callback([&chosen, options] { chosen = *options; });
  };

  const auto create = std::make_shared<DiskCreate>();
  choose(add_create(*disk, *create), create);

  const auto info = std::make_shared<DiskInfo>();
  CLI::App* info_command = disk->add_subcommand("info", "Say what an image is");
  add_image(*info_command, info->image);
  add_format(*info_command, "--format,-f", info->format, "Format of the image (default: found out)");
  info_command->add_flag("--json", info->json, "As JSON");
  info_command->add_flag("--chain", info->chain, "All images below it, too");
  choose(info_command, info);

  const auto check = std::make_shared<DiskCheck>();
  CLI::App* check_command = disk->add_subcommand("check", "Check a qcow2 image, and repair it on demand");
  check_command->footer(check_footer);
  add_image(*check_command, check->image);
  add_format(*check_command, "--format,-f", check->format, "Format of the image (default: found out)");
  check_command
      ->add_option_function<std::string>("--repair", value_into(check->repair, "--repair", parse_repair),
                                         "leaks: give back leaked space; all: mend everything that can be mended")
      ->type_name("WHAT");
  check_command->add_flag("--json", check->json, "As JSON");
  choose(check_command, check);

  const auto convert = std::make_shared<DiskConvert>();
  choose(add_convert(*disk, *convert), convert);
  const auto resize = std::make_shared<DiskResize>();
  choose(add_resize(*disk, *resize), resize);
  const auto rebase = std::make_shared<DiskRebase>();
  choose(add_rebase(*disk, *rebase), rebase);

  const auto commit = std::make_shared<DiskCommit>();
  CLI::App* commit_command = disk->add_subcommand("commit", "Write an overlay's content into its backing file");
  add_image(*commit_command, commit->image);
  commit_command->add_flag("--keep", commit->keep, "Do not empty the overlay afterwards");
  choose(commit_command, commit);

  CLI::App* snapshot = disk->add_subcommand("snapshot", "Snapshots inside a qcow2 image");
  snapshot->require_subcommand(1);
  struct Verb {
    const char* name;
    const char* help;
    DiskSnapshot::Action action;
  };
  for (const Verb& verb : {Verb{"list", "List them", DiskSnapshot::Action::List},
                           Verb{"create", "Make one of the image as it is", DiskSnapshot::Action::Create},
                           Verb{"apply", "Make the image what it was then", DiskSnapshot::Action::Apply},
                           Verb{"delete", "Give one up", DiskSnapshot::Action::Delete}}) {
    const auto options = std::make_shared<DiskSnapshot>();
    options->action = verb.action;
    CLI::App* command = snapshot->add_subcommand(verb.name, verb.help);
    add_image(*command, options->image);
    if (verb.action == DiskSnapshot::Action::List)
      command->add_flag("--json", options->json, "As JSON");
    else
      command->add_option("NAME", options->name, "Its name (or id)")->required()->type_name("");
    choose(command, options);
  }
}

}  // namespace veneer::cli
