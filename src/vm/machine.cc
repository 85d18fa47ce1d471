// Building a machine, running it, resetting it.
#include "vm/machine.h"

#include <fmt/format.h>

#include <filesystem>
#include <span>
#include <string_view>
#include <utility>

#include "base/bits.h"
#include "base/log.h"
#include "boot/absent_bios.h"
#include "boot/firmware.h"
#include "boot/linux.h"
#include "vm/host_memory.h"
#include "vm/layout.h"

namespace veneer::vm {
namespace {

Result<void> check(const MachineConfig& config) {
  if (config.cpus < 1 || config.cpus > max_cpus)
    return Error(fmt::format("a machine has 1 to {} CPUs, not {}", max_cpus, config.cpus));
  if (config.memory_bytes % page_size != 0)
    return Error(fmt::format("memory size {} is not a multiple of 4 KiB", config.memory_bytes));
  if (config.memory_bytes < layout::MIN_MEMORY)
    return Error(fmt::format("memory too small: {} KiB, a machine has at least {} MiB", config.memory_bytes / KiB,
                             layout::MIN_MEMORY / MiB));
  if (config.kernel.empty() && config.restore.empty() && !config.firmware.present())
    return Error("nothing to boot: neither a kernel nor firmware");
  if (config.firmware.present() && config.machine != MachineKind::Pc)
    return Error("firmware needs a pc (--machine pc): a micro machine boots kernels only");
  if (config.firmware.present() && !config.kernel.empty())
    return Error("a kernel is booted without firmware: leave out --firmware or --kernel");
  if (config.engine_options.deterministic && (!config.disks.empty() || !config.nets.empty() || !config.restore.empty()))
    return Error(
        "--debug deterministic does not work with --disk, --net or --restore: what comes from there has no fixed time");
  return {};
}

/// IA32_MTRR_DEF_TYPE as firmware leaves it (SDM 3A 12.11.2.1): E, and write-back where no range says otherwise.
/// Linux uses the PAT only with MTRRs enabled.
constexpr std::uint64_t MTRR_ENABLED_WRITE_BACK = (1u << 11) | 6;

/// What the guest is told of its memory.
boot::E820Map memory_map(std::uint64_t memory_bytes) {
  using boot::E820Type;
  boot::E820Map map = {
      {layout::CONVENTIONAL_BASE, layout::EBDA_BASE, E820Type::Ram},
      {layout::EBDA_BASE, layout::VGA_WINDOW_BASE - layout::EBDA_BASE, E820Type::Reserved},
      {layout::ACPI_TABLES_BASE, layout::ACPI_TABLES_SIZE, E820Type::Reserved},
      {layout::EXTENDED_BASE, layout::ram_below_4g(memory_bytes) - layout::EXTENDED_BASE, E820Type::Ram},
  };
  if (const std::uint64_t high = layout::ram_above_4g(memory_bytes))
    map.push_back({layout::ABOVE_4G_BASE, high, E820Type::Ram});
  return map;
}

}  // namespace

Machine::Machine(MachineConfig config)
    : config_(std::move(config)), events_(lock_), control_(config_.no_reboot), idleness_(config_.cpus) {}

Machine::~Machine() { stop_threads(); }

Result<std::unique_ptr<Machine>> Machine::create(MachineConfig config, const EngineFactory& engine) {
  TRY_VOID(check(config));
  std::unique_ptr<Machine> machine(new Machine(std::move(config)));
  TRY_VOID(machine->build(engine));
  return machine;
}

Result<void> Machine::build(const EngineFactory& make_engine) {
  const TscCalibration calibration;  // measures beside the loading
  if (const std::string warning = memory_warning(config_.memory_bytes, measure_host_memory()); !warning.empty())
    log_warning("{}", warning);
  volunteer_for_oom();
  TRY(const cpu::FeatureSet features, config_.cpu.features(cpu::host_features(config_.cpus)));
  long_mode_ = features.test(static_cast<std::size_t>(cpu::Feature::LONG_MODE));
  TRY_VOID(add_memory());
  std::optional<MachineFile> saved;
  if (config_.restore.empty()) {
    TRY_VOID(load_guest());
  } else {
    TRY(saved, open_machine_file(config_.restore));
    if (auto done = read_ram(*saved, memory_); !done)
      return std::move(done).error().context("saved machine " + config_.restore);
    if (config_.firmware.present())
      TRY_VOID(load_guest());  // for resets
    else
      find_boot_files();
  }

  const bool deterministic = config_.engine_options.deterministic;
  std::uint64_t tsc_hz = deterministic ? 1'000'000'000 : calibration.finish();
  if (deterministic) tsc_.follow(virtual_time_.clock());
  if (saved) {
    if (auto fits = check_saved(*saved, tsc_hz); !fits)
      return std::move(fits).error().context("saved machine " + config_.restore);
    tsc_hz = saved->config.tsc_hz;
  }
  TRY(auto cpuid, cpu::CpuidPolicy::make(config_.cpu, config_.cpus, tsc_hz));
  cpuid_ = std::make_unique<cpu::CpuidPolicy>(std::move(cpuid));
  if (config_.cpus > 1 && !has(*cpuid_, cpu::Feature::APIC))
    return Error(fmt::format("--cpu {} has no local APIC: it can only be the one processor of a machine (--cpus 1)",
                             config_.cpu.text));
  if (deterministic) cpuid_->hide_random_numbers();
  const unsigned physical_bits = cpuid_->physical_bits();
  // A processor of 32 bits sees neither RAM above 4 GiB nor the PCI window there; the latter nobody needs.
  const std::uint64_t end = physical_bits > 32
                                ? layout::pci_window64_base(config_.memory_bytes) + layout::PCI_WINDOW64_SIZE
                                : layout::ram_above_4g(config_.memory_bytes) + layout::ABOVE_4G_BASE;
  if (end > bit(physical_bits))
    return Error(fmt::format("memory too large: {} MiB do not fit into the guest's {} physical address bits",
                             config_.memory_bytes / MiB, physical_bits));

  TRY(board_, Mainboard::create(config_, {lock_, timers(), control_, memory_, tsc_, tsc_hz, physical_bits, *cpuid_,
                                          events_, [this] { control_.pause(); }, flash_, variable_store_.get()}));
  TRY(engine_, make_engine(config_, memory_, *board_, *cpuid_));
  for (unsigned i = 0; i < config_.cpus; ++i) {
    TRY(auto vcpu, engine_->make_vcpu(i));
    threads_.push_back(
        std::make_unique<VcpuThread>(i, std::move(vcpu), board_->local_apic(i), idleness_, signature(),
                                     [this](unsigned index, const cpu::Exit& exit) { on_vcpu_exit(index, exit); }));
  }
  if (deterministic) {
    one_thread_ = std::make_unique<OneThread>(threads_, virtual_time_, lock_, config_.engine_options.seed);
    control_.set_end_listener([this] { one_thread_->hold(); });
  }
  if (!saved) {
    TRY_VOID(power_on());
    return board_->network().start();
  }
  {
    const std::lock_guard hold(lock_);
    board_->reset();
  }
  if (auto done = restore(*saved); !done) return std::move(done).error().context("saved machine " + config_.restore);
  return board_->network().start();
}

TimerService& Machine::timers() {
  if (config_.engine_options.deterministic) return virtual_time_;
  return events_;
}

/// For a reset of a machine that was restored. Without them it runs until then.
void Machine::find_boot_files() {
  const boot::LinuxBoot linux_boot{config_.kernel, config_.initrd, {}, {}, {}, long_mode_, config_.modules, {}};
  if (auto files = boot::LinuxFiles::open(linux_boot))
    boot_files_ = std::move(files).value();
  else
    log_warning("a reset of the guest will fail: {}", files.error().message());
}

Result<void> Machine::add_memory() {
  const auto add = [this](const char* name, std::uint64_t base, std::uint64_t size_bytes) -> Result<void> {
    auto slot = memory_.add(name, GuestPhys{base}, size_bytes, machine::SlotKind::Ram, config_.prealloc);
    if (!slot)
      return std::move(slot).error().context(fmt::format("guest memory of {} MiB", config_.memory_bytes / MiB));
    return {};
  };
  TRY_VOID(add("conventional", layout::CONVENTIONAL_BASE, layout::VGA_WINDOW_BASE));
  TRY_VOID(add("shadow", layout::SHADOW_BASE, layout::EXTENDED_BASE - layout::SHADOW_BASE));
  if (config_.firmware.present()) TRY_VOID(add_firmware());
  TRY_VOID(add("extended", layout::EXTENDED_BASE, layout::ram_below_4g(config_.memory_bytes) - layout::EXTENDED_BASE));
  if (const std::uint64_t high = layout::ram_above_4g(config_.memory_bytes))
    TRY_VOID(add("above-4g", layout::ABOVE_4G_BASE, high));
  return {};
}

/// The firmware's ROM, behind the shadow RAM and below 4 GiB.
Result<void> Machine::add_firmware() {
  machine::MemorySlot* const shadow = memory_.find(GuestPhys{layout::SHADOW_BASE});
  TRY(machine::MemorySlot* const low, memory_.add_behind("firmware-low", *shadow));
  Firmware& firmware = config_.firmware;
  for (std::string* path : {&firmware.path, &firmware.variables_image, &firmware.variables})
    if (!path->empty()) *path = std::filesystem::absolute(*path).string();  // for who restores it elsewhere
  const auto in_context = [](Error error, const std::string& path) {
    const std::string_view package = path.starts_with("/usr/share/OVMF/")      ? "ovmf"
                                     : path.starts_with("/usr/share/seabios/") ? "seabios"
                                                                               : "";
    if (package.empty()) return std::move(error).context(fmt::format("firmware {}", path));
    return std::move(error).context(fmt::format("firmware {} (of Debian's package {})", path, package));
  };
  auto loaded = boot::check_firmware_name(firmware.path);
  if (loaded) loaded = boot::load_firmware(memory_, *low, firmware.path);
  if (!loaded) return in_context(std::move(loaded).error(), firmware.path);
  if (firmware.variables_image.empty()) return {};
  const GuestPhys above = memory_.find(GuestPhys{layout::ABOVE_4G_BASE - 1})->base;
  auto flash = boot::load_flash(memory_, above, firmware.variables_image);
  if (!flash) return in_context(std::move(flash).error(), firmware.variables_image);
  flash_ = flash.value();
  const std::span contents(reinterpret_cast<std::byte*>(flash_->host), flash_->size_bytes);
  if (!is_variable_image(contents))
    return in_context(Error("it holds no UEFI variables: no firmware volume begins there"), firmware.variables_image);
  if (firmware.variables.empty()) return {};
  TRY(variable_store_, VariableStore::open(firmware.variables, contents));
  return variable_store_->read(contents);
}

/// Family, model and stepping: what EDX holds after power-up and INIT, as CPUID.1 EAX does (SDM 3A table 9-1).
std::uint32_t Machine::signature() const { return cpuid_->query(1, 0, {}).eax; }

/// Puts kernel and initrd into memory; boot_state_ is then what the first processor starts with.
Result<void> Machine::load_guest() {
  if (config_.firmware.present()) {
    cpu::reset_state(boot_state_);
    return {};
  }
  const boot::LinuxBoot linux_boot{
      config_.kernel,
      config_.initrd,
      config_.cmdline,
      GuestPhys{layout::ACPI_TABLES_BASE},
      memory_map(config_.memory_bytes),
      long_mode_,
      config_.modules,
      config_.engine_options.deterministic ? std::optional(config_.engine_options.seed) : std::nullopt};
  if (!boot_files_ && !config_.restore.empty())
    return Error("the kernel of this machine was not there when it was restored");
  if (!boot_files_) {
    TRY(boot_files_, boot::LinuxFiles::open(linux_boot));
  }
  TRY(const boot::BootEntry entry, boot::load_linux(memory_, linux_boot, *boot_files_, boot_state_));
  log_debug("kernel at {:#x}, {} bytes; initrd at {:#x}, {} bytes", entry.kernel.value, entry.kernel_bytes,
            entry.initrd.value, entry.initrd_bytes);
  return {};
}

/// The state after power-up or reset, of devices and processors. vCPUs parked.
Result<void> Machine::power_on() {
  const std::lock_guard hold(lock_);
  board_->reset();
  if (!config_.firmware.present()) {
    TRY_VOID(board_->write_tables());
    if (!boot::write_absent_bios(memory_, memory_map(config_.memory_bytes)))
      return Error("no RAM for what stands in for a BIOS");
  }
  cpu::ArchState waiting;  // application processors
  cpu::reset_state(waiting);
  waiting.gpr[cpu::RDX] = signature();
  if (config_.firmware.present()) boot_state_.gpr[cpu::RDX] = signature();
  for (cpu::ArchState* state : {&boot_state_, &waiting}) {
    state->tsc_offset = tsc_.offset();
    if (!config_.firmware.present()) state->mtrr_def_type = MTRR_ENABLED_WRITE_BACK;
  }
  for (unsigned i = 0; i < threads_.size(); ++i) threads_[i]->set_reset_state(i == 0 ? boot_state_ : waiting);
  return {};
}

Result<MachineExit> Machine::run() {
  events_.start();
  if (one_thread_)
    one_thread_->start();
  else
    for (const auto& thread : threads_) thread->start();
  if (control_.pause_wanted())
    carry_out_pause();  // before the first instruction
  else
    let_run();
  for (;;) {
    switch (control_.wait()) {
      case Control::Work::Pause:
        carry_out_pause();
        break;
      case Control::Work::Resume:
        carry_out_resume();
        break;
      case Control::Work::Reset:
        carry_out_reset();
        break;
      case Control::Work::End:
        stop_threads();
        TRY_VOID(close_disks());
        const MachineExit how = control_.result();
        if (how.reason == MachineExit::Reason::Failed) return Error(how.message);
        return how;
    }
  }
}

void Machine::order_all(VcpuThread::Order order) {
  for (const auto& thread : threads_) thread->order(order);
}

void Machine::park_all() {
  order_all(VcpuThread::Order::Park);
  for (const auto& thread : threads_) thread->wait_parked();
}

/// Guest code and frames of the network move.
void Machine::let_run() {
  {
    const std::lock_guard hold(lock_);
    board_->network().resume();
  }
  order_all(VcpuThread::Order::Run);
}

void Machine::carry_out_pause() {
  park_all();
  {
    const std::lock_guard hold(lock_);
    board_->network().pause();
  }
  tsc_.pause();
  events_.pause_clock();
  control_.set_paused(true);
}

void Machine::carry_out_resume() {
  events_.resume_clock();
  const std::uint64_t change = tsc_.resume();
  for (const auto& thread : threads_) thread->vcpu().move_tsc(change);
  control_.set_paused(false);
  {
    const std::lock_guard hold(lock_);
    board_->disks().resume();
  }
  let_run();
}

void Machine::carry_out_reset() {
  park_all();
  {
    const std::lock_guard hold(lock_);
    board_->reset();  // before the kernel is loaded: a disk may still be writing to memory
  }
  auto done = load_guest();
  if (done) done = power_on();
  if (!done) return control_.failed(std::move(done).error().context("reset").message());
  if (!control_.paused()) order_all(VcpuThread::Order::Run);
}

void Machine::stop_threads() {
  for (const auto& thread : threads_) thread->order(VcpuThread::Order::Quit);
  for (const auto& thread : threads_) thread->join();
  if (one_thread_) one_thread_->join();
  if (board_) board_->network().stop();
  events_.stop();
}

/// The last words to the disks: from here on nothing of the guest's is only in this process.
Result<void> Machine::close_disks() {
  const std::lock_guard hold(lock_);
  return board_->disks().close();
}

void Machine::power_button() {
  events_.post([this] { board_->press_power_button(); });
}

void Machine::power_button_or(std::function<void()> unheard) {
  events_.post([this, unheard = std::move(unheard)] {
    if (control_.pause_wanted() || !board_->power_button_heard()) return unheard();
    board_->press_power_button();
  });
}

void Machine::on_vcpu_exit(unsigned index, const cpu::Exit& exit) {
  switch (exit.reason) {
    case cpu::ExitReason::Shutdown: {
      const std::string what = fmt::format("the guest crashed vCPU {} (triple fault){}{}", index,
                                           exit.message.empty() ? "" : ": ", exit.message);
      if (!config_.no_reboot) log_guest(crash_limiter_, "{}; it is reset", what);
      return control_.crashed(what);
    }
    case cpu::ExitReason::Failed:
      return control_.failed(fmt::format("vCPU {}: {}", index, exit.message));
    default:  // a breakpoint, or the end of a step
      control_.pause();
      if (debug_listener_) debug_listener_(index);
  }
}

}  // namespace veneer::vm
