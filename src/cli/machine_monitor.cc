// MachineMonitor: looking into a running machine by letting it stand still for a moment.
#include "cli/machine_monitor.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <future>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "cli/balloon_report.h"
#include "cli/size.h"
#include "debug/flight_dump.h"
#include "devices/display/png.h"
#include "devices/display/vga.h"
#include "devices/input/ps2_mouse.h"
#include "devices/input/typist.h"
#include "devices/virtio/virtio_balloon.h"
#include "vm/layout.h"

namespace veneer::cli {
namespace {

constexpr std::chrono::seconds pause_patience{3};
/// A guest that has nothing better to do answers within a millisecond.
constexpr std::chrono::milliseconds statistics_patience{500};
constexpr unsigned shown_events = 40;

std::string segment_line(std::string_view name, const cpu::Segment& segment) {
  return fmt::format("{:<4} {:04x} base {:016x} limit {:08x} attributes {:04x}{}\n", name, segment.selector,
                     segment.base, segment.limit, segment.attributes,
                     (segment.attributes & cpu::Segment::P) != 0 ? "" : " unusable");
}

std::string flag_letters(std::uint64_t rflags) {
  struct Flag {
    std::uint64_t bit;
    const char* name;
  };
  static constexpr std::array<Flag, 13> flags = {{{cpu::RFLAGS_CF, "CF"},
                                                  {cpu::RFLAGS_PF, "PF"},
                                                  {cpu::RFLAGS_AF, "AF"},
                                                  {cpu::RFLAGS_ZF, "ZF"},
                                                  {cpu::RFLAGS_SF, "SF"},
                                                  {cpu::RFLAGS_TF, "TF"},
                                                  {cpu::RFLAGS_IF, "IF"},
                                                  {cpu::RFLAGS_DF, "DF"},
                                                  {cpu::RFLAGS_OF, "OF"},
                                                  {cpu::RFLAGS_NT, "NT"},
                                                  {cpu::RFLAGS_VM, "VM"},
                                                  {cpu::RFLAGS_AC, "AC"},
                                                  {cpu::RFLAGS_ID, "ID"}}};
  std::string out;
  for (const Flag& flag : flags)
    if ((rflags & flag.bit) != 0) out += fmt::format("{}{}", out.empty() ? "" : " ", flag.name);
  return out;
}

const char* mode_name(const cpu::ArchState& state) {
  if ((state.cr0 & cpu::CR0_PE) == 0) return "real mode";
  if (state.code64()) return "64-bit mode";
  if (state.long_mode()) return "compatibility mode";
  if ((state.rflags & cpu::RFLAGS_VM) != 0) return "virtual-8086 mode";
  return "protected mode";
}

}  // namespace

std::string format_registers(const cpu::ArchState& state) {
  static constexpr std::array<const char*, cpu::gpr_count> gpr_names = {
      "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15"};
  static constexpr std::array<const char*, cpu::segment_count> segment_names = {"ES", "CS", "SS", "DS", "FS", "GS"};
  std::string out;
  for (unsigned i = 0; i < cpu::gpr_count; ++i)
    out += fmt::format("{:<4} {:016x}{}", gpr_names[i], state.gpr[i], i % 4 == 3 ? "\n" : "  ");
  out += fmt::format("RIP  {:016x}  RFLAGS {:08x} [{}]  CPL {}  {}{}\n", state.rip, state.rflags,
                     flag_letters(state.rflags), state.cpl(), mode_name(state), state.halted ? ", halted" : "");
  for (unsigned i = 0; i < cpu::segment_count; ++i) out += segment_line(segment_names[i], state.segments[i]);
  out += segment_line("LDTR", state.ldtr) + segment_line("TR", state.tr);
  out += fmt::format("GDTR base {:016x} limit {:04x}  IDTR base {:016x} limit {:04x}\n", state.gdtr.base,
                     state.gdtr.limit, state.idtr.base, state.idtr.limit);
  out += fmt::format("CR0 {:08x}  CR2 {:016x}  CR3 {:016x}  CR4 {:08x}  CR8 {:x}\n", state.cr0, state.cr2, state.cr3,
                     state.cr4, state.cr8);
  out += fmt::format("DR0 {:016x}  DR1 {:016x}  DR2 {:016x}  DR3 {:016x}\nDR6 {:08x}  DR7 {:08x}\n", state.dr[0],
                     state.dr[1], state.dr[2], state.dr[3], state.dr[6], state.dr[7]);
  out += fmt::format("EFER {:04x}  STAR {:016x}  LSTAR {:016x}  KERNEL_GS_BASE {:016x}\n", state.efer, state.star,
                     state.lstar, state.kernel_gs_base);
  return out;
}

std::string MachineMonitor::while_paused(const std::function<std::string()>& look) {
  const std::lock_guard one_at_a_time(looking_);
  const bool was_paused = machine_.paused();
  machine_.pause();
  if (!machine_.wait_paused(true, pause_patience)) {
    if (!was_paused) machine_.resume();
    return "the CPUs did not stop in time\n";
  }
  std::string out = look();
  if (!was_paused) machine_.resume();
  return out;
}

std::string MachineMonitor::with_board(std::function<std::string()> look) {
  const auto answer = std::make_shared<std::promise<std::string>>();
  auto future = answer->get_future();
  machine_.events().post([answer, look = std::move(look)] { answer->set_value(look()); });
  if (future.wait_for(pause_patience) != std::future_status::ready) return "the machine did not answer in time\n";
  return future.get();
}

std::string MachineMonitor::disks() {
  return with_board([this] { return machine_.board().disks().describe(); });
}

std::string MachineMonitor::network() {
  return with_board([this] { return machine_.board().network().describe(); });
}

namespace {
constexpr const char* no_balloon = "this machine has no balloon (--balloon off)\n";
}  // namespace

std::string MachineMonitor::balloon() {
  const auto answer = std::make_shared<std::promise<bool>>();
  auto future = answer->get_future();
  machine_.events().post([this, answer] {
    devices::VirtioBalloon* const balloon = machine_.board().balloon();
    if (balloon == nullptr || !balloon->ask_statistics([answer] { answer->set_value(true); })) answer->set_value(false);
  });
  const bool answered = future.wait_for(statistics_patience) == std::future_status::ready && future.get();
  return with_board([this, answered]() -> std::string {
    const devices::VirtioBalloon* const balloon = machine_.board().balloon();
    return balloon != nullptr ? describe_balloon(*balloon, machine_.config().memory_bytes, answered) : no_balloon;
  });
}

std::string MachineMonitor::set_guest_memory(std::uint64_t bytes) {
  return with_board([this, bytes]() -> std::string {
    devices::VirtioBalloon* const balloon = machine_.board().balloon();
    if (balloon == nullptr) return no_balloon;
    const std::uint64_t all = machine_.config().memory_bytes;
    if (bytes < vm::layout::MIN_MEMORY || bytes > all)
      return fmt::format("this guest can have {} to {}\n", format_size(vm::layout::MIN_MEMORY), format_size(all));
    balloon->set_target(all - bytes);
    return balloon->driver_present() ? "" : "the guest has no driver for the balloon yet: it is asked when it has\n";
  });
}

std::string MachineMonitor::set_link(std::string name, bool up) {
  return with_board([this, name = std::move(name), up]() -> std::string {
    if (machine_.board().network().set_link(name, up)) return {};
    return fmt::format("there is no card \"{}\"; info network lists them\n", name.substr(0, 40));
  });
}

namespace {
constexpr const char* no_screen = "this machine has no screen: only those that start in firmware do";
constexpr const char* no_input = "this machine has no keyboard and no mouse: only a pc does";
}  // namespace

std::string MachineMonitor::screen() {
  return with_board([this]() -> std::string {
    const devices::Vga* const vga = machine_.board().screen();
    return vga != nullptr ? vga->text() : fmt::format("{}\n", no_screen);
  });
}

Result<void> MachineMonitor::screenshot(const Fd& file) {
  const auto answer = std::make_shared<std::promise<std::optional<devices::Picture>>>();
  auto future = answer->get_future();
  machine_.events().post([this, answer] {
    const devices::Vga* const vga = machine_.board().screen();
    answer->set_value(vga != nullptr ? std::optional(vga->picture()) : std::nullopt);
  });
  if (future.wait_for(pause_patience) != std::future_status::ready) return Error("the machine did not answer in time");
  const auto picture = future.get();
  if (!picture) return Error(no_screen);
  const std::vector<std::uint8_t> png = devices::encode_png(*picture);
  if (png.empty()) return Error("the picture could not be compressed");
  for (std::size_t at = 0; at < png.size();) {
    const ssize_t n = ::pwrite(file.get(), png.data() + at, png.size() - at, static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return Error::from_errno("writing the picture", n == 0 ? ENOSPC : errno);
    at += static_cast<std::size_t>(n);
  }
  return {};
}

std::string MachineMonitor::press_keys(std::vector<devices::KeyEvent> events) {
  return with_board([this, events = std::move(events)]() -> std::string {
    devices::Typist* const typist = machine_.board().typist();
    if (typist == nullptr) return fmt::format("{}\n", no_input);
    const auto typed = typist->type(events);
    return typed ? std::string() : typed.error().message() + "\n";
  });
}

std::string MachineMonitor::with_mouse(std::function<void(devices::Ps2Mouse&)> use) {
  return with_board([this, use = std::move(use)]() -> std::string {
    devices::Ps2Mouse* const mouse = machine_.board().mouse();
    if (mouse == nullptr) return fmt::format("{}\n", no_input);
    use(*mouse);
    return {};
  });
}

std::string MachineMonitor::move_mouse(int dx, int dy, int wheel) {
  return with_mouse([=](devices::Ps2Mouse& mouse) { mouse.move(dx, dy, wheel); });
}

std::string MachineMonitor::set_mouse_buttons(std::uint8_t buttons) {
  return with_mouse([=](devices::Ps2Mouse& mouse) { mouse.set_buttons(buttons); });
}

/// Back when it stands still, so that the next command sees it so.
void MachineMonitor::pause() {
  machine_.pause();
  machine_.wait_paused(true, pause_patience);
}

std::string MachineMonitor::with_disk(std::string name, std::function<Result<void>(disk::Disk&)> change) {
  return with_board([this, name = std::move(name), change = std::move(change)]() -> std::string {
    disk::Disk* const found = machine_.board().disks().find(name);
    if (found == nullptr) return fmt::format("there is no disk \"{}\"; info block lists them\n", name.substr(0, 40));
    const Result<void> done = change(*found);
    return done ? fmt::format("{} has {} now\n", name, format_size(found->size_bytes()))
                : done.error().message() + "\n";
  });
}

std::string MachineMonitor::grow_disk(std::string name, std::uint64_t size_bytes) {
  return with_disk(std::move(name), [size_bytes](disk::Disk& disk) { return disk.grow(size_bytes); });
}

std::string MachineMonitor::refresh_disk(std::string name) {
  return with_disk(std::move(name), [](disk::Disk& disk) { return disk.refresh_size(); });
}

Result<void> MachineMonitor::save(const Fd& file) {
  const std::lock_guard one_at_a_time(looking_);
  const bool was_paused = machine_.paused();
  machine_.pause();
  Result<void> saved =
      machine_.wait_paused(true, pause_patience) ? machine_.save(file) : Error("the CPUs did not stop in time");
  if (!was_paused) machine_.resume();
  return saved;
}

std::string MachineMonitor::registers(unsigned vcpu) {
  return while_paused([&] {
    cpu::ArchState state;
    machine_.vcpu(vcpu).get_state(state);
    return format_registers(state);
  });
}

std::string MachineMonitor::tlb(unsigned vcpu) {
  return while_paused([&] { return machine_.vcpu(vcpu).info_tlb(); });
}

std::string MachineMonitor::jit(unsigned vcpu) {
  return while_paused([&] { return machine_.vcpu(vcpu).info_jit(); });
}

std::string MachineMonitor::events(unsigned vcpu) { return debug::describe_flight_recorder(vcpu, shown_events); }

std::string MachineMonitor::status() {
  return fmt::format("{}: {}, {} CPU{}, engine {}\n", machine_.config().name, machine_.paused() ? "paused" : "running",
                     machine_.vcpu_count(), machine_.vcpu_count() == 1 ? "" : "s", machine_.engine().name());
}

}  // namespace veneer::cli
