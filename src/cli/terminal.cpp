#include "cli/terminal.h"

#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>

namespace fathom::cli {
namespace {

std::atomic<int> g_signal{0};  // written by the handler: async-signal-safe state has to be global
std::atomic<int> g_graceful{0};
std::atomic<bool> g_hangup{false};

void OnSignal(int signal) {
  if (g_graceful.load() > 0 && g_signal.exchange(signal) == 0) return;
  _exit(128 + signal);
}

void OnHangup(int) { g_hangup.store(true); }

}  // namespace

HangupListener::HangupListener() {
  struct sigaction action {};
  action.sa_handler = OnHangup;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGHUP, &action, nullptr);
}
HangupListener::~HangupListener() { std::signal(SIGHUP, SIG_DFL); }
bool HangupListener::Take() { return g_hangup.exchange(false); }

void InstallSignalHandlers() {
  struct sigaction action {};
  action.sa_handler = OnSignal;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  std::signal(SIGPIPE, SIG_DFL);
  std::signal(SIGXFSZ, SIG_IGN);  // a file over the limit of its size is an error of the write, which can be explained
}

bool Interrupted() { return g_signal.load() != 0; }

GracefulInterrupt::GracefulInterrupt() {
  g_signal.store(0);
  g_graceful.fetch_add(1);
}
GracefulInterrupt::~GracefulInterrupt() {
  g_graceful.fetch_sub(1);
  g_signal.store(0);
}
int GracefulInterrupt::ExitCode() const {
  const int signal = g_signal.load();
  return signal == 0 ? 0 : 128 + signal;
}

void Print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    throw Error("cannot write to standard output", std::strerror(errno), "", "the disk may be full");
  }
}

bool StdoutIsTerminal() { return isatty(STDOUT_FILENO) == 1; }
bool StderrIsTerminal() { return isatty(STDERR_FILENO) == 1; }

void PrintError(const Error& error) { std::fprintf(stderr, "fathom: error: %s\n", error.what()); }

}  // namespace fathom::cli
