// `veneer image build`.
#include "cli/image/image.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <thread>
#include <utility>

#include "cli/disk/new_file.h"
#include "cli/disk/progress.h"
#include "cli/image/build_display.h"
#include "cli/size.h"
#include "disk/copy.h"
#include "image/password.h"

namespace veneer::cli {
namespace {

Result<void> copy_into(const NewFile& file, const ImageBuild& options, const std::string& raw) {
  using namespace disk;
  TRY(const std::unique_ptr<Image> source, open_image(raw, {.format = Format::Raw, .read_only = true}));
  NewImage like;
  like.format = options.format;
  TRY(const std::unique_ptr<Image> target, make_image(file, like, source->size(), std::nullopt, ""));
  CopyOptions copy;
  copy.threads = std::clamp(2 * std::thread::hardware_concurrency(), 2u, 8u);
  copy.zero_granularity = options.format == Format::Qcow2 ? like.cluster_bytes : 4096;
  copy.progress = [](std::uint64_t) { return !stop_wanted(); };
  if (auto copied = copy_image(*source, *target, copy); !copied) {
    (void)target->close();  // it will be removed: why it cannot be finished is known
    return copied;
  }
  return target->close();
}

void say_how_to_use(const ImageBuild& options, bool generated) {
  const image::DebianOptions& debian = options.debian;
  const char* key = options.format == disk::Format::Raw ? ",format=raw" : "";
  fmt::print("{} is ready: Debian {}, user {} (with sudo)", options.output, debian.suite, debian.user);
  if (generated)
    fmt::print(", password {}", debian.password);
  else if (debian.password.empty())
    fmt::print(", who gets in with the ssh key only");
  fmt::print("\nStart it:\n  veneer run {}{} --memory 1G --net user,hostfwd=tcp:127.0.0.1:2222-:22\n", options.output,
             key);
  fmt::print("  ssh -p 2222 {}@127.0.0.1\n", debian.user);
}

Result<void> build(const ImageBuild& options, BuildDisplay& display) {
  TRY_VOID(image::check(options.debian));
  TRY_VOID(image::check_host());
  TRY(NewFile file, NewFile::make(options.output, options.replace));
  TRY(const image::WorkFolder work, image::WorkFolder::make());
  TRY(const std::string raw, image::build_debian(options.debian, work, display.watch()));
  display.stage(options.format == disk::Format::Raw ? "copying the image" : "writing the qcow2 image");
  TRY_VOID(copy_into(file, options, raw));
  return file.publish(true);
}

}  // namespace

int run_image(const ImageBuild& asked) {
  ImageBuild options = asked;
  const bool generated = options.debian.password.empty() && options.debian.ssh_keys.empty();
  if (generated) options.debian.password = image::new_password();
  const StopSignals signals;
  Result<void> done;
  {
    BuildDisplay display(image::debian_stage_count + 1, options.verbose);
    done = build(options, display);
  }
  if (done) {
    say_how_to_use(options, generated);
    return 0;
  }
  if (stop_wanted())
    fmt::print(stderr, "veneer: stopped; {} was not made\n", options.output);
  else
    fmt::print(stderr, "veneer: {}\n", done.error().message());
  return 1;
}

}  // namespace veneer::cli
