// fathom chat: a conversation on the terminal.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <clocale>
#include <cstdio>
#include <memory>

#include "cli/chat_session.h"
#include "cli/commands.h"
#include "cli/numbers.h"
#include "cli/sampling_options.h"
#include "cli/template_options.h"
#include "cli/terminal.h"

namespace fathom::cli {
namespace {

struct ChatFlags {
  ModelOptions model;
  SamplingOptions sampling;
  std::string system, chat_template;
  bool thinking = false;
  int64_t ctx_size = 0, max_tokens = 0, drafts = -1;
};

constexpr const char* kHelp =
    "  /clear          forget the conversation\n"
    "  /system TEXT    set the system prompt (no TEXT: remove it)\n"
    "  /save FILE      write the conversation as JSON\n"
    "  /exit           leave (or Ctrl-D)\n"
    "  Ctrl-C          stop an answer\n";

// What follows a command's name, without the blanks around it.
std::string Argument(const std::string& line, size_t name_length) {
  const size_t first = line.find_first_not_of(" \t", name_length);
  if (first == std::string::npos) return "";
  return line.substr(first, line.find_last_not_of(" \t") - first + 1);
}

bool IsCommand(const std::string& line, const std::string& name) {
  return line == name || line.rfind(name + " ", 0) == 0;
}

void Answer(ChatSession& chat, const std::string& line) {
  GracefulInterrupt interrupt;
  const Turn turn = chat.Say(line, [](std::string_view piece) {
    if (!piece.empty()) Print(piece);
    return !Interrupted();
  });
  Print("\n");
  const engine::Answer& a = turn.answer;
  const int64_t n = static_cast<int64_t>(a.ids.size());
  std::string stats = fmt::format("[{} prompt tokens ({} cached), first token after {:.2f} s; {} tokens",
                                  turn.prompt_tokens, a.cached_tokens, a.prompt_seconds, n);
  if (n > 1 && a.decode_seconds > 0)
    stats += fmt::format(", {:.1f} tokens/s", static_cast<double>(n - 1) / a.decode_seconds);
  std::fprintf(stderr, StderrIsTerminal() ? "\033[2m%s; %s]\033[0m\n" : "%s; %s]\n", stats.c_str(),
               std::string(turn.finish_reason).c_str());
}

// False ends the conversation.
bool Handle(ChatSession& chat, const std::string& line) {
  if (line == "/exit") return false;
  if (line == "/clear") {
    chat.Clear();
    std::fprintf(stderr, "[forgotten]\n");
  } else if (IsCommand(line, "/system")) {
    chat.SetSystem(Argument(line, 7));
    std::fprintf(stderr, "[system prompt %s]\n", Argument(line, 7).empty() ? "removed" : "set");
  } else if (IsCommand(line, "/save")) {
    const std::string path = Argument(line, 5);
    if (path.empty()) throw Error("/save needs a file name", "", "/save FILE");
    chat.Save(path);
    std::fprintf(stderr, "[saved to %s]\n", path.c_str());
  } else if (line == "/help") {
    std::fputs(kHelp, stderr);
  } else if (line.rfind('/', 0) == 0 && line.find(' ') == std::string::npos && line.size() > 1) {
    throw Error("unknown command", line, "/clear /system /save /exit /help",
                "to say it to the model, put a blank before it");
  } else if (!line.empty()) {
    Answer(chat, line);
  }
  return true;
}

int Run(const ChatFlags& f) {
  std::setlocale(LC_CTYPE, "");  // the line editor's idea of a character
  LoadedModel model(f.model);
  ChatSettings settings;
  if (!f.chat_template.empty()) settings.chat_template = f.chat_template;
  settings.sampling = Resolve(f.sampling, model.checkpoint().generation_config());
  settings.stop = f.sampling.stop;
  settings.system = f.system;
  settings.thinking = f.thinking;
  settings.ctx_size = f.ctx_size;
  settings.drafts = f.drafts;
  settings.max_tokens = f.max_tokens;
  ChatSession chat(model, settings);
  const bool terminal = StdoutIsTerminal();
  if (terminal) std::fprintf(stderr, "%s\n%s\n", model.Description().c_str(), kHelp);
  LineReader reader(/*history=*/true);
  while (const std::optional<std::string> line = reader.Read(terminal ? "> " : "")) {
    try {
      if (!Handle(chat, *line)) break;
    } catch (const Error& e) {
      PrintError(e);
      if (!terminal) return kExitError;
    }
  }
  return 0;
}

}  // namespace

void AddChatCommand(CLI::App& app, int& exit_code) {
  auto f = std::make_shared<ChatFlags>();
  CLI::App* c = app.add_subcommand("chat", "Talk to a chat model");
  AddModelOptions(*c, f->model);
  c->add_option("--system", f->system, "System prompt");
  AddTemplateOptions(*c, f->chat_template);
  c->add_flag("--thinking", f->thinking, "Let a v3.1 model reason before it answers");
  c->add_option("--ctx-size,-c", f->ctx_size,
                fmt::format("Positions to keep room for (default: the model's, at most {})", kDefaultChatContext))
      ->check(kPositive);
  c->add_option("--max-tokens,-n", f->max_tokens, "Tokens of an answer at most (default: what the context leaves)")
      ->check(kPositive);
  AddDraftsOption(*c, f->drafts);
  AddSamplingOptions(*c, f->sampling);
  c->footer(std::string("In the conversation:\n") + kHelp);
  c->callback([f, &exit_code] { exit_code = Run(*f); });
}

}  // namespace fathom::cli
