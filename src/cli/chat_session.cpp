#include "cli/chat_session.h"

#include <editline/readline.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <system_error>

#include "cli/terminal.h"
#include "io/file.h"
#include "tokenizer/text_session.h"

namespace fathom::cli {
namespace {

tokenizer::ChatTemplate Choose(const ChatSettings& settings, const tokenizer::ModelText& text) {
  return tokenizer::ChooseChatTemplate(settings.chat_template, text.chat_template).Value();
}

// $XDG_STATE_HOME/fathom/history, by default ~/.local/state/fathom/history; empty without a home.
std::string HistoryPath() {
  const char* state = std::getenv("XDG_STATE_HOME");
  const char* home = std::getenv("HOME");
  std::string base = state && *state ? state : home && *home ? std::string(home) + "/.local/state" : "";
  if (base.empty()) return "";
  base += "/fathom";
  std::error_code ignored;  // without the directory there is no history, and nothing else is lost
  std::filesystem::create_directories(base, ignored);
  return base + "/history";
}

}  // namespace

ChatSession::ChatSession(LoadedModel& model, const ChatSettings& settings)
    : model_(model),
      settings_(settings),
      text_(tokenizer::LoadModelText(model.checkpoint().path())),
      template_(Choose(settings, text_)) {
  CheckVocabulary(text_.tokenizer, model.config());
  const int64_t limit = model.config().max_position_embeddings;
  if (settings_.ctx_size <= 0) settings_.ctx_size = std::min(limit, kDefaultChatContext);
  model_.BuildTransformer(settings_.ctx_size);
  engine_ = MakeEngine(model_, 1, {.max_context = settings_.ctx_size, .drafts = settings_.drafts});
  Clear();
}

void ChatSession::Clear() {
  messages_ = nlohmann::ordered_json::array();
  if (!settings_.system.empty()) messages_.push_back({{"role", "system"}, {"content", settings_.system}});
}

void ChatSession::SetSystem(const std::string& text) {
  settings_.system = text;
  nlohmann::ordered_json rest = nlohmann::ordered_json::array();
  if (!text.empty()) rest.push_back({{"role", "system"}, {"content", text}});
  for (const auto& m : messages_) {
    if (m["role"] != "system") rest.push_back(m);
  }
  messages_ = std::move(rest);
}

void ChatSession::Save(const std::string& path) const {
  io::WriteFileAtomically(path, messages_.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

std::vector<int32_t> ChatSession::Encode(const nlohmann::ordered_json& messages) const {
  const std::string rendered = tokenizer::RenderChat(template_, messages,
                                                     {.bos_token = text_.bos_token,
                                                      .eos_token = text_.eos_token,
                                                      .add_generation_prompt = true,
                                                      .thinking = settings_.thinking})
                                   .Value();
  const std::vector<tokenizer::TokenId> ids = text_.tokenizer.Encode(rendered);
  return {ids.begin(), ids.end()};
}

Turn ChatSession::Say(const std::string& text, const std::function<bool(std::string_view)>& on_text) {
  nlohmann::ordered_json messages = messages_;
  messages.push_back({{"role", "user"}, {"content", text}});
  engine::Request request;
  request.prompt = Encode(messages);
  const int64_t prompt = static_cast<int64_t>(request.prompt.size()), room = settings_.ctx_size - prompt;
  if (room <= 0) {
    throw Error("the conversation is longer than the context", fmt::format("{} tokens", prompt),
                fmt::format("less than {} (--ctx-size)", settings_.ctx_size),
                "/clear begins anew; a larger --ctx-size holds more, up to the model's max_position_embeddings");
  }
  request.max_tokens = settings_.max_tokens > 0 ? std::min(settings_.max_tokens, room) : room;
  request.sampling = settings_.sampling;
  request.sampling.seed += turns_++;
  for (int64_t id : model_.checkpoint().eos_ids()) request.eos_ids.push_back(static_cast<int32_t>(id));
  tokenizer::TextSession session(text_.tokenizer, {.stop = settings_.stop});
  Turn turn{.text = {}, .answer = {}, .finish_reason = {}, .prompt_tokens = prompt};
  bool wanted = true;
  const auto show = [&](const std::string& piece) {
    turn.text += piece;
    wanted = on_text(piece);
    return wanted;
  };
  turn.answer = engine_
                    ->Run(std::span(&request, 1),
                          [&](size_t, const engine::Token& token) {
                            return show(session.Push(static_cast<tokenizer::TokenId>(token.id))) && !session.stopped();
                          })
                    .front();
  turn.finish_reason = wanted ? engine::Name(turn.answer.finish_reason) : "cancelled";
  if (!session.stopped()) show(session.Finish());
  messages.push_back({{"role", "assistant"}, {"content", turn.text}});
  messages_ = std::move(messages);
  return turn;
}

LineReader::LineReader(bool history) : terminal_(isatty(STDIN_FILENO) == 1 && StdoutIsTerminal()), history_(history) {
  if (!terminal_ || !history_) return;
  using_history();
  history_path_ = HistoryPath();
  if (!history_path_.empty()) read_history(history_path_.c_str());
}

LineReader::~LineReader() {
  if (terminal_ && history_ && !history_path_.empty()) write_history(history_path_.c_str());
}

std::optional<std::string> LineReader::Read(const std::string& prompt) {
  if (!terminal_) {
    std::string line;
    if (!prompt.empty()) Print(prompt);
    if (!std::getline(std::cin, line)) return std::nullopt;
    return line;
  }
  char* line = readline(prompt.c_str());
  if (!line) return std::nullopt;
  std::string text = line;
  std::free(line);
  if (history_ && !text.empty()) add_history(text.c_str());
  return text;
}

}  // namespace fathom::cli
