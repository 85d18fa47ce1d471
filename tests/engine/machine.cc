// The test machine: tables, runs, and reading what a default exception handler saw.
#include "machine.h"

#include <signal.h>
#include <unistd.h>

#include <condition_variable>
#include <cstring>
#include <mutex>

namespace veneer::engine_tests {

using namespace cpu;

namespace {

const CpuidPolicy& policy() {
  static const CpuidPolicy the_policy = CpuidPolicy::host(1, 2'000'000'000);
  return the_policy;
}

/// Asks the vCPU to come back when a run takes too long, so that a hang fails one test and not all.
class Watchdog {
 public:
  explicit Watchdog(Vcpu& vcpu)
      : thread_([this, &vcpu] {
          std::unique_lock hold(lock_);
          constexpr auto patience = std::chrono::seconds(5);
          if (!ended_.wait_for(hold, patience, [this] { return done_; })) {
            ADD_FAILURE() << "the vCPU did not come back";
            vcpu.request_exit();
          }
        }) {
    constexpr unsigned last_resort_seconds = 30;
    ::alarm(last_resort_seconds);
  }
  ~Watchdog() {
    {
      const std::lock_guard hold(lock_);
      done_ = true;
    }
    ended_.notify_one();
    thread_.join();
    ::alarm(0);
  }
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  std::mutex lock_;
  std::condition_variable ended_;
  bool done_ = false;
  std::thread thread_;
};

}  // namespace

Machine::Machine(const EngineKind& kind) : Machine(kind, policy()) {}

Machine::Machine(const EngineKind& kind, const CpuidPolicy& cpuid) {
  if (!memory_.add("ram", GuestPhys{0}, ram_bytes, machine::SlotKind::Ram).ok() ||
      !memory_.add("rom", GuestPhys{rom_at}, rom_bytes, machine::SlotKind::Rom).ok())
    throw std::runtime_error("guest memory");
  build_tables();
  auto made = kind.make(memory_, board, cpuid);
  if (!made) throw std::runtime_error(made.error().message());
  engine_ = std::move(made).value();
  auto vcpu = engine_->make_vcpu(0);
  if (!vcpu) throw std::runtime_error(vcpu.error().message());
  vcpu_ = std::move(vcpu).value();
  long_mode();
}

Machine::~Machine() = default;

void Machine::load(std::uint64_t physical, Code code) {
  if (!memory_.write(GuestPhys{physical}, std::as_bytes(code))) throw std::runtime_error("load");
}

void Machine::put(std::uint64_t physical, std::uint64_t value, unsigned size) {
  if (!memory_.write(GuestPhys{physical}, std::as_bytes(std::span(&value, 1)).first(size)))
    throw std::runtime_error("put");
}

std::uint64_t Machine::get(std::uint64_t physical, unsigned size) {
  std::uint64_t value = 0;
  if (!memory_.read(GuestPhys{physical}, std::as_writable_bytes(std::span(&value, 1)).first(size)))
    throw std::runtime_error("get");
  return value;
}

void Machine::map(std::uint64_t address, std::uint64_t physical, std::uint64_t flags) {
  std::uint64_t table = page_tables_at;
  for (unsigned shift = 39; shift > 12; shift -= 9) {
    const std::uint64_t at = table + ((address >> shift) & 511) * 8;
    if (!(get(at) & PTE_P)) put(at, (next_table_ += page_size) | PTE_P | PTE_W | PTE_U);
    table = get(at) & 0x000ffffffffff000;
  }
  put(table + ((address >> 12) & 511) * 8, physical | flags | PTE_P);
}

std::uint64_t Machine::entry_of(std::uint64_t address, unsigned level) {
  std::uint64_t table = page_tables_at;
  for (unsigned at_level = 4;; at_level--) {
    const std::uint64_t at = table + ((address >> (12 + 9 * (at_level - 1))) & 511) * 8;
    if (at_level == level) return at;
    table = get(at) & 0x000ffffffffff000;
  }
}

void Machine::gate(unsigned vector, std::uint64_t handler, unsigned dpl, unsigned ist) {
  constexpr std::uint64_t interrupt_gate = 0x8e00;
  put(idt_at + vector * 16, (handler & 0xffff) | std::uint64_t{kernel_code} << 16 | std::uint64_t{ist} << 32 |
                                (interrupt_gate | std::uint64_t{dpl} << 13) << 32 | ((handler >> 16) & 0xffff) << 48);
  put(idt_at + vector * 16 + 8, handler >> 32);
}

void Machine::build_tables() {
  for (std::uint64_t page = 0; page < ram_bytes; page += page_size) map(page, page, PTE_W);
  for (std::uint64_t page = 0; page < 4 * page_size; page += page_size) {
    map(mmio_at + page, mmio_at + page, PTE_W | PTE_PCD);
    map(rom_at + page, rom_at + page, PTE_W);
    map(user_code_at + page, user_code_physical + page, PTE_U);
    map(user_data_at + page, user_data_physical + page, PTE_U | PTE_W | PTE_NX);
  }
  const std::uint64_t gdt[] = {0,
                               0x00af9b000000ffff,  // kernel code
                               0x00cf93000000ffff,  // kernel data
                               0x00cffb000000ffff,  // user code, 32 bits
                               0x00cff3000000ffff,  // user data
                               0x00affb000000ffff,  // user code
                               0x00cf9b000000ffff,  // kernel code, 32 bits
                               0,
                               0x00008b0000000000 | (tss_bytes - 1) | tss_at << 16,
                               0};
  for (std::size_t i = 0; i < std::size(gdt); i++) put(gdt_at + 8 * i, gdt[i]);
  put(tss_at + 4, kernel_stack_top);  // RSP0
  put(tss_at + 36, ist1_top);
  put(tss_at + 102, tss_bytes, 2);  // no I/O permission bitmap
  for (unsigned vector = 0; vector < 256; vector++) {
    gate(vector, handlers_at + 16 * vector, vector == VECTOR_BP || vector == VECTOR_OF ? 3 : 0);
    put(handlers_at + 16 * vector, 0xf4, 1);  // HLT
  }
}

void Machine::long_mode() {
  reset_state(state);
  state.rip = code_at;
  state.gpr = {};
  state.gpr[RSP] = kernel_stack_top - 0x800;
  state.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
  state.cr3 = page_tables_at;
  state.cr4 = CR4_PAE | CR4_PGE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
  state.efer = EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE;
  state.xcr0 = policy().xcr0_mask();
  state.segments[CS] = {kernel_code, 0xa9b, 0xffffffff, 0};
  for (const SegReg data : {SS, DS, ES}) state.segments[data] = {kernel_data, 0xc93, 0xffffffff, 0};
  state.segments[FS] = state.segments[GS] = {};
  state.tr = {tss_selector, 0x8b, tss_bytes - 1, tss_at};
  state.ldtr = {};
  state.gdtr = {gdt_at, 10 * 8 - 1};
  state.idtr = {idt_at, 256 * 16 - 1};
}

void Machine::user_mode() {
  long_mode();
  state.rip = user_code_at;
  state.gpr[RSP] = user_data_at + user_pages * page_size - 0x100;
  state.segments[CS] = {user_code, 0xafb, 0xffffffff, 0};
  for (const SegReg data : {SS, DS, ES}) state.segments[data] = {user_data, 0xcf3, 0xffffffff, 0};
}

Exit Machine::run() {
  vcpu_->set_state(state);
  return go_on();
}

Exit Machine::go_on() {
  Exit exit;
  {
    const Watchdog watchdog(*vcpu_);
    exit = vcpu_->run();
  }
  vcpu_->get_state(state);
  return exit;
}

Exit Machine::step() {
  vcpu_->set_state(state);
  Exit exit;
  {
    const Watchdog watchdog(*vcpu_);
    exit = vcpu_->step();
  }
  vcpu_->get_state(state);
  return exit;
}

std::optional<Taken> Machine::run_to_exception() {
  const Exit exit = run();
  if (exit.reason != ExitReason::Halted) {
    ADD_FAILURE() << "exit " << static_cast<int>(exit.reason) << " " << exit.message;
    return std::nullopt;
  }
  const std::uint64_t at = state.rip - 1 - handlers_at;
  if (at >= 256 * 16 || at % 16) {
    ADD_FAILURE() << "halted outside the handlers, at " << std::hex << state.rip;
    return std::nullopt;
  }
  Taken taken{};
  taken.vector = static_cast<unsigned>(at / 16);
  constexpr std::uint32_t with_error = 1u << VECTOR_DF | 1u << VECTOR_TS | 1u << VECTOR_NP | 1u << VECTOR_SS |
                                       1u << VECTOR_GP | 1u << VECTOR_PF | 1u << VECTOR_AC;
  std::uint64_t frame = state.gpr[RSP];
  if (taken.vector < 32 && ((with_error >> taken.vector) & 1)) {
    taken.error = static_cast<std::uint32_t>(get(frame));
    frame += 8;
  }
  taken.rip = get(frame);
  taken.cs = get(frame + 8);
  taken.rflags = get(frame + 16);
  taken.rsp = get(frame + 24);
  taken.ss = get(frame + 32);
  return taken;
}

}  // namespace veneer::engine_tests
