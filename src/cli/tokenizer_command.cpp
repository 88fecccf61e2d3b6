// fathom tokenizer encode|decode|render|train: text and token ids, and chats as the model sees them.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/commands.h"
#include "cli/template_options.h"
#include "cli/terminal.h"
#include "cli/tokenizer_train.h"
#include "tokenizer/chat_template.h"
#include "tokenizer/model_files.h"

namespace fathom::cli {
namespace {

using Json = nlohmann::ordered_json;
using tokenizer::ModelText;
using tokenizer::TokenId;

struct TokenizerFlags {
  std::string model;
  std::optional<std::string> text, file;
  std::string chat_template;  // empty: the model's own
  bool jsonl = false, bos = false, no_special = false, skip_special = false;
};

// A descriptor's bytes by lines or as a whole. Tells when the next line would have to be waited for.
class Input {
 public:
  explicit Input(const std::optional<std::string>& path) : name_(path.value_or("standard input")) {
    if (path) fd_ = open(path->c_str(), O_RDONLY | O_CLOEXEC);
    if (fd_ < 0) throw Error("cannot open a file", fmt::format("{}: {}", name_, std::strerror(errno)));
  }
  ~Input() {
    if (fd_ != STDIN_FILENO) close(fd_);
  }
  Input(const Input&) = delete;
  Input& operator=(const Input&) = delete;

  std::string All() {
    while (Fill()) {
    }
    return std::move(buffer_);
  }
  bool LineIsReady() const { return buffer_.find('\n', at_) != std::string::npos; }
  bool NextLine(std::string& line) {
    size_t searched = at_;
    for (;;) {
      const size_t end = buffer_.find('\n', searched);
      if (end != std::string::npos) {
        line.assign(buffer_, at_, end - at_);
        at_ = end + 1;
        return true;
      }
      buffer_.erase(0, at_);
      at_ = 0;
      searched = buffer_.size();
      if (Fill()) continue;
      line = std::exchange(buffer_, {});
      return !line.empty();
    }
  }

 private:
  static constexpr size_t kStep = 1 << 16;
  static constexpr size_t kMost = size_t{1} << 31;

  bool Fill() {
    if (buffer_.size() > kMost) throw Error("the input is too long", name_, fmt::format("at most {} bytes", kMost));
    const size_t size = buffer_.size();
    buffer_.resize(size + kStep);
    ssize_t n = 0;
    do n = read(fd_, buffer_.data() + size, kStep);
    while (n < 0 && errno == EINTR);
    buffer_.resize(size + static_cast<size_t>(std::max<ssize_t>(n, 0)));
    if (n < 0) throw Error("cannot read", fmt::format("{}: {}", name_, std::strerror(errno)));
    return n > 0;
  }

  std::string name_;
  int fd_ = STDIN_FILENO;
  std::string buffer_;
  size_t at_ = 0;
};

std::string TextInput(const TokenizerFlags& flags) { return flags.text ? *flags.text : Input(flags.file).All(); }

void AppendIds(const std::vector<TokenId>& ids, std::string_view between, std::string& out) {
  char digits[16];
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) out += between;
    out.append(digits, std::to_chars(digits, digits + sizeof digits, ids[i]).ptr);
  }
}

std::vector<TokenId> Encode(const ModelText& model, std::string_view text, const TokenizerFlags& flags) {
  return model.tokenizer.Encode(text, {.parse_special = !flags.no_special, .add_bos = flags.bos});
}

std::string Decode(const ModelText& model, const std::vector<TokenId>& ids, const TokenizerFlags& flags) {
  for (const TokenId id : ids) {
    if (model.tokenizer.IsToken(id)) continue;
    throw Error("a token id is not in the vocabulary", fmt::format("{}", id),
                fmt::format("ids below {}", model.tokenizer.vocab_size()));
  }
  return model.tokenizer.Decode(ids, flags.skip_special);
}

std::vector<TokenId> IdsOfText(std::string_view text) {
  constexpr std::string_view kBetween = " \t\r\n,[]";
  std::vector<TokenId> ids;
  for (size_t at = text.find_first_not_of(kBetween); at != std::string_view::npos;
       at = text.find_first_not_of(kBetween, at)) {
    const size_t end = std::min(text.find_first_of(kBetween, at), text.size());
    TokenId id = 0;
    const auto [stop, error] = std::from_chars(text.data() + at, text.data() + end, id);
    if (error != std::errc() || stop != text.data() + end) {
      throw Error("this is no token id", std::string(text.substr(at, std::min<size_t>(end - at, 60))),
                  "numbers with spaces or commas between");
    }
    ids.push_back(id);
    at = end;
  }
  return ids;
}

const Json& Need(const Json& row, const char* key, bool (Json::*is)() const noexcept, const char* expected) {
  const auto it = row.is_object() ? row.find(key) : row.end();
  if (!row.is_object() || it == row.end() || !((*it).*is)()) {
    throw Error(fmt::format("no \"{}\"", key), row.dump(-1, ' ', false, Json::error_handler_t::replace).substr(0, 200),
                expected);
  }
  return *it;
}

bool Flag(const Json& row, const char* key) {
  const auto it = row.find(key);
  if (it == row.end() || it->is_null()) return false;
  if (!it->is_boolean()) throw Error(fmt::format("\"{}\" is neither true nor false", key), it->dump().substr(0, 200));
  return it->get<bool>();
}

// A row, or a bare list of messages.
Result<std::string> Render(const ModelText& model, const Json& row, const TokenizerFlags& flags) {
  const Json& messages = row.is_array() ? row
                                        : Need(row, "messages", &Json::is_array,
                                               "{\"messages\": [{\"role\": ..., \"content\": ...}, ...]}");
  std::optional<std::string> name;
  if (!flags.chat_template.empty()) name = flags.chat_template;
  tokenizer::ChatOptions options{
      .bos_token = model.bos_token, .eos_token = model.eos_token, .add_generation_prompt = false};
  if (row.is_object()) {
    options.add_generation_prompt = Flag(row, "add_generation_prompt");
    options.thinking = Flag(row, row.contains("thinking") ? "thinking" : "enable_thinking");
    if (!name && row.contains("template"))
      name = Need(row, "template", &Json::is_string, "the name of a template").get<std::string>();
  }
  return tokenizer::RenderChat(tokenizer::ChooseChatTemplate(name, model.chat_template).Value(), messages, options);
}

Json ParseJson(std::string_view text) {
  try {
    return Json::parse(text);
  } catch (const Json::exception& e) {
    throw Error("this is not valid JSON", std::string(text.substr(0, 200)), "", e.what());
  }
}

// In ASCII: U+2028 and its like end a line for some readers.
std::string JsonText(std::string_view text) { return Json(text).dump(-1, ' ', /*ensure_ascii=*/true); }

std::string EncodeRow(const ModelText& model, const Json& row, const TokenizerFlags& flags) {
  const auto& text = Need(row, "text", &Json::is_string, "{\"text\": \"...\"}").get_ref<const std::string&>();
  std::string out = "{\"ids\": [";
  AppendIds(Encode(model, text, flags), ", ", out);
  return out + "]}\n";
}

std::string DecodeRow(const ModelText& model, const Json& row, const TokenizerFlags& flags) {
  std::vector<TokenId> ids;
  for (const Json& id : Need(row, "ids", &Json::is_array, "{\"ids\": [...]}")) {
    if (!id.is_number_integer() || id < 0 || id > INT32_MAX)
      throw Error("this is no token id", id.dump().substr(0, 200), "a number of the vocabulary");
    ids.push_back(id.get<TokenId>());
  }
  return "{\"text\": " + JsonText(Decode(model, ids, flags)) + "}\n";
}

// Lines in, lines out. A line that is malformed ends the program and is named.
template <class Row>
void ForEachLine(const TokenizerFlags& flags, const Row& row) {
  constexpr size_t kBuffer = 1 << 16;
  Input input(flags.file);
  std::string line, out;
  for (int64_t number = 1; input.NextLine(line); ++number) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
    try {
      out += row(ParseJson(line), number);
    } catch (const Error& e) {
      Print(out);
      throw Error(fmt::format("line {}: {}", number, e.summary()), e.got(), e.expected(), e.hint());
    }
    if (out.size() < kBuffer && input.LineIsReady()) continue;
    Print(out);
    out.clear();
  }
  Print(out);
}

void RunEncode(const TokenizerFlags& flags) {
  const ModelText model = tokenizer::LoadModelText(flags.model);
  if (flags.jsonl) {
    ForEachLine(flags, [&](const Json& row, int64_t) { return EncodeRow(model, row, flags); });
    return;
  }
  std::string out;
  AppendIds(Encode(model, TextInput(flags), flags), " ", out);
  Print(out + "\n");
}

void RunDecode(const TokenizerFlags& flags) {
  const ModelText model = tokenizer::LoadModelText(flags.model);
  if (flags.jsonl) {
    ForEachLine(flags, [&](const Json& row, int64_t) { return DecodeRow(model, row, flags); });
    return;
  }
  Print(Decode(model, IdsOfText(TextInput(flags)), flags));
}

void RunRender(const TokenizerFlags& flags, int& exit_code) {
  const ModelText model = tokenizer::LoadModelText(flags.model);
  if (!flags.jsonl) return Print(Render(model, ParseJson(TextInput(flags)), flags).Value());
  // Messages that the template cannot render are the row's result; the rest of the rows goes on.
  ForEachLine(flags, [&](const Json& row, int64_t number) {
    const Result<std::string> rendered = Render(model, row, flags);
    if (rendered.ok()) return "{\"rendered\": " + JsonText(rendered.Value()) + "}\n";
    const Error& e = rendered.error();
    PrintError(Error(fmt::format("line {}: {}", number, e.summary()), e.got(), e.expected(), e.hint()));
    exit_code = kExitError;
    return "{\"error\": " + JsonText(e.summary()) + "}\n";
  });
}

}  // namespace

void AddTokenizerCommand(CLI::App& app, int& exit_code) {
  CLI::App* command =
      app.add_subcommand("tokenizer", "Text to token ids and back; chats as the model sees them; tokenizers from text");
  command->require_subcommand(1);
  command->footer(
      "MODEL_OR_FILE is a model's directory, or a tokenizer.json, also gzipped. Input is standard input unless --text "
      "or\n"
      "--file is given. Examples:\n"
      "  fathom tokenizer encode models/fathom-16m --text 'Once upon a time'\n"
      "  fathom tokenizer encode models/fathom-16m --text 'Once upon a time' | fathom tokenizer decode "
      "models/fathom-16m\n"
      "  echo '{\"text\": \"Hello\"}' | fathom tokenizer encode models/fathom-16m --jsonl\n"
      "  echo '[{\"role\": \"user\", \"content\": \"Hi\"}]' | fathom tokenizer render models/fathom-16m\n"
      "  fathom tokenizer train corpus/ --vocab-size 32768 --out my-tokenizer");
  const auto flags = std::make_shared<TokenizerFlags>();
  auto add = [&](const char* name, const char* help, const char* text_help) {
    CLI::App* c = command->add_subcommand(name, help);
    c->add_option("MODEL_OR_FILE", flags->model, "Model directory, tokenizer.json or tokenizer.json.gz")->required();
    CLI::Option* text = c->add_option("--text", flags->text, text_help);
    CLI::Option* file = c->add_option("--file", flags->file, "Read the input from this file")->excludes(text);
    c->add_flag("--jsonl", flags->jsonl, "One JSON object a line, in and out")->excludes(text);
    (void)file;
    return c;
  };
  CLI::App* encode = add("encode", "Text to ids; with --jsonl {\"text\"} to {\"ids\"}", "The text");
  encode->add_flag("--bos", flags->bos, "Begin with the model's bos token (default: nothing is added)");
  encode->add_flag("--no-special", flags->no_special, "Take special tokens in the text for plain text");
  encode->callback([flags] { RunEncode(*flags); });
  CLI::App* decode =
      add("decode", "Ids to text; with --jsonl {\"ids\"} to {\"text\"}", "The ids, with spaces or commas between");
  decode->add_flag("--skip-special", flags->skip_special, "Leave special tokens out");
  decode->callback([flags] { RunDecode(*flags); });
  CLI::App* render = add("render",
                         "A chat to the text of its template; with --jsonl {\"messages\", \"tools\", \"thinking\", "
                         "\"add_generation_prompt\"} to {\"rendered\"}",
                         "The chat: a JSON list of messages, or an object as with --jsonl");
  AddTemplateOptions(*render, flags->chat_template);
  render->callback([flags, &exit_code] { RunRender(*flags, exit_code); });
  AddTokenizerTrain(*command, exit_code);
}

}  // namespace fathom::cli
