// The program's side of the terminal: signals, standard output, and how an error looks.
#pragma once

#include <string_view>

#include "core/error.h"

namespace fathom::cli {

inline constexpr int kExitError = 1, kExitUsage = 2, kExitInterrupted = 130, kExitTerminated = 143;

// Ctrl-C ends the program with 130 and SIGTERM with 143, at once, unless a GracefulInterrupt is alive: then the first
// one only sets Interrupted(), and a second ends the program. A closed pipe ends it quietly (SIGPIPE's default).
void InstallSignalHandlers();
bool Interrupted();

class GracefulInterrupt {
 public:
  GracefulInterrupt();
  ~GracefulInterrupt();
  GracefulInterrupt(const GracefulInterrupt&) = delete;
  GracefulInterrupt& operator=(const GracefulInterrupt&) = delete;
  // The exit code that the signal asks for, 0 if none came.
  int ExitCode() const;
};

// While one is alive, SIGHUP does not end the program but is noted.
class HangupListener {
 public:
  HangupListener();
  ~HangupListener();
  HangupListener(const HangupListener&) = delete;
  HangupListener& operator=(const HangupListener&) = delete;
  bool Take();  // whether one came since the last time
};

// Writes to standard output and flushes. Throws Error if that fails (a full disk).
void Print(std::string_view text);

bool StdoutIsTerminal();
bool StderrIsTerminal();

// "fathom: error: ..." on standard error.
void PrintError(const Error& error);

}  // namespace fathom::cli
