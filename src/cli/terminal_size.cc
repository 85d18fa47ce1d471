// From the terminal's window to the console's configuration.
#include "cli/terminal_size.h"

#include "cli/terminal.h"
#include "devices/virtio/virtio_console.h"

namespace veneer::cli {

void TerminalSize::attach(vm::Machine* machine) {
  {
    const std::lock_guard lock(mutex_);
    machine_ = machine;
  }
  look();
}

void TerminalSize::look() {
  const std::lock_guard lock(mutex_);
  const auto size = terminal::size();
  if (machine_ == nullptr || !size) return;
  machine_->events().post([machine = machine_, size = *size] {
    if (devices::VirtioConsole* const console = machine->board().console()) console->set_size(size.columns, size.rows);
  });
}

}  // namespace veneer::cli
