// The simple serial backends: null, a file, and standard input and output.
#include "cli/serial_backend.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "base/fd.h"
#include "cli/console.h"
#include "cli/output_queue.h"
#include "cli/terminal.h"

namespace veneer::cli {
namespace {

class NullSerial final : public SerialBackend, private machine::CharSink {
 public:
  machine::CharSink& sink() override { return *this; }
  void start(GuestInput&, MonitorTarget&) override {}
  void abandon() override {}
  void finish(std::chrono::milliseconds) override {}

 private:
  void write(std::span<const std::uint8_t>) override {}
};

class FileSerial final : public SerialBackend {
 public:
  FileSerial(Fd fd, const std::string& path) : fd_(std::move(fd)), out_(fd_.get(), path) {}
  machine::CharSink& sink() override { return out_; }
  void start(GuestInput&, MonitorTarget&) override {}
  void abandon() override { out_.abandon(); }
  void finish(std::chrono::milliseconds patience) override { out_.finish(patience); }

 private:
  Fd fd_;
  OutputQueue out_;
};

class StdioSerial final : public SerialBackend {
 public:
  machine::CharSink& sink() override { return out_; }
  void start(GuestInput& guest, MonitorTarget& monitor) override {
    terminal::enter_raw();
    console_ = std::make_unique<Console>(out_, guest, monitor);
    console_->start();
  }
  void abandon() override { out_.abandon(); }
  void finish(std::chrono::milliseconds patience) override {
    if (console_) console_->stop();
    out_.finish(patience);
    terminal::restore();
  }

 private:
  OutputQueue out_{STDOUT_FILENO, "standard output"};
  std::unique_ptr<Console> console_;
};

}  // namespace

Result<std::unique_ptr<SerialBackend>> open_serial(const SerialTarget& target) {
  std::unique_ptr<SerialBackend> backend;
  switch (target.kind) {
    case SerialTarget::Kind::Null:
      backend = std::make_unique<NullSerial>();
      break;
    case SerialTarget::Kind::Stdio:
      backend = std::make_unique<StdioSerial>();
      break;
    case SerialTarget::Kind::File: {
      Fd fd(::open(target.path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
      if (!fd.valid()) return Error::from_errno("opening " + target.path + " for the serial port", errno);
      backend = std::make_unique<FileSerial>(std::move(fd), target.path);
      break;
    }
    case SerialTarget::Kind::Unix:
      return open_unix_serial(target.path);
  }
  return backend;
}

}  // namespace veneer::cli
