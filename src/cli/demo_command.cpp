#include "cli/demo_command.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <sstream>

#include "cli/chat_session.h"
#include "cli/numbers.h"
#include "cli/terminal.h"
#include "io/file.h"
#include "tokenizer/text_session.h"

namespace fathom::cli {
namespace {

constexpr int64_t kDefaultNewTokens = 200;
constexpr double kDefaultTemperature = 0.2;
constexpr uint64_t kSeed = 965;

engine::SamplingParams DemoSampling(const SamplingOptions& o) {
  SamplingOptions with_defaults = o;
  if (!o.temperature) with_defaults.temperature = kDefaultTemperature;
  if (!o.seed) with_defaults.seed = kSeed;
  return Resolve(with_defaults, {});
}

std::string Strip(const std::string& s) {
  constexpr const char* kBlank = " \t\r\n\v\f";
  const size_t first = s.find_first_not_of(kBlank);
  return first == std::string::npos ? "" : s.substr(first, s.find_last_not_of(kBlank) - first + 1);
}

// All prompts together, each answer at most max_new tokens and all within the positions that the longest prompt leaves.
std::vector<engine::Answer> RunBatch(LoadedModel& m, const std::vector<std::vector<int32_t>>& prompts, int64_t max_new,
                                     const engine::SamplingParams& sampling, const std::vector<int32_t>& eos) {
  const int64_t limit = m.config().max_position_embeddings;
  int64_t longest = 0;
  for (const auto& p : prompts) longest = std::max<int64_t>(longest, static_cast<int64_t>(p.size()));
  if (longest > limit) {
    throw Error("a prompt is longer than the model's context", fmt::format("{} tokens", longest),
                fmt::format("at most {} (max_seq_len)", limit),
                "shorten the prompt or raise max_seq_len in the configuration");
  }
  const int64_t total = std::min(limit, max_new + longest);
  std::vector<engine::Request> requests;
  for (const auto& p : prompts) {
    engine::Request r;
    r.prompt = p;
    r.max_tokens = std::min(max_new, total - static_cast<int64_t>(p.size()));
    r.sampling = sampling;
    r.sampling.seed += requests.size();
    r.eos_ids = eos;
    requests.push_back(std::move(r));
  }
  m.BuildTransformer(total);
  return MakeEngine(m, static_cast<int64_t>(requests.size()), {.max_context = total})->Run(requests);
}

std::vector<int32_t> EosIds(const LoadedModel& m, const tokenizer::ModelText* text) {
  if (text && text->tokenizer.eos_id()) return {static_cast<int32_t>(*text->tokenizer.eos_id())};
  std::vector<int32_t> ids;
  for (int64_t id : m.checkpoint().eos_ids()) ids.push_back(static_cast<int32_t>(id));
  return ids;
}

int RunFile(LoadedModel& m, const DemoFlags& f, const SamplingOptions& sampling, const std::string& input_file,
            int64_t max_new) {
  const tokenizer::ModelText text = tokenizer::LoadModelText(m.checkpoint().path());
  CheckVocabulary(text.tokenizer, m.config());
  const std::optional<std::string> named = f.chat_template.empty() ? std::nullopt : std::optional(f.chat_template);
  const tokenizer::ChatTemplate chat_template = tokenizer::ChooseChatTemplate(named, text.chat_template).Value();
  std::vector<std::string> lines;
  std::istringstream in(io::ReadFile(input_file, kPromptLimit).Value());
  for (std::string line; std::getline(in, line);) lines.push_back(Strip(line));
  if (lines.empty()) throw Error("no prompts in the file", input_file, "one prompt a line");
  std::vector<std::vector<int32_t>> prompts;
  for (const std::string& line : lines) {
    nlohmann::ordered_json messages = nlohmann::ordered_json::array();
    messages.push_back({{"role", "user"}, {"content", line}});
    const std::string rendered =
        tokenizer::RenderChat(chat_template, messages, {.bos_token = text.bos_token, .eos_token = text.eos_token})
            .Value();
    const std::vector<tokenizer::TokenId> ids = text.tokenizer.Encode(rendered);
    prompts.emplace_back(ids.begin(), ids.end());
  }
  const std::vector<engine::Answer> answers = RunBatch(m, prompts, max_new, DemoSampling(sampling), EosIds(m, &text));
  for (size_t i = 0; i < lines.size(); ++i) {
    const std::vector<tokenizer::TokenId> ids(answers[i].ids.begin(), answers[i].ids.end());
    Print(fmt::format("Prompt: {}\nCompletion: {}\n\n", lines[i], text.tokenizer.Decode(ids, /*skip_special=*/true)));
  }
  return 0;
}

int RunInteractive(LoadedModel& m, const DemoFlags& f, const SamplingOptions& sampling, int64_t max_new) {
  ChatSettings settings;
  if (!f.chat_template.empty()) settings.chat_template = f.chat_template;
  settings.sampling = DemoSampling(sampling);
  settings.max_tokens = max_new;
  ChatSession chat(m, settings);
  LineReader reader(/*history=*/false);
  while (const std::optional<std::string> line = reader.Read(">>> ")) {
    if (*line == "/exit") break;
    if (*line == "/clear") {
      chat.Clear();
      continue;
    }
    GracefulInterrupt interrupt;
    chat.Say(*line, [](std::string_view piece) {
      if (!piece.empty()) Print(piece);
      return !Interrupted();
    });
    Print("\n");
  }
  return 0;
}

}  // namespace

void AddDemoOptions(CLI::App& c, DemoFlags& f) {
  const char* group = "As DeepSeek's demo (with --config)";
  c.add_option("--ckpt-path", f.ckpt_path, "Directory of model{i}-mp{n}.safetensors shards and a tokenizer")
      ->group(group);
  c.add_flag("--interactive", f.interactive, "A conversation at >>> , with /exit and /clear; else --input-file")
      ->group(group);
  c.add_option("--max-new-tokens", f.max_new_tokens,
               fmt::format("Tokens of an answer at most (default: {})", kDefaultNewTokens))
      ->check(kNonNegative)
      ->group(group);
  c.add_option("--template", f.chat_template, "Chat template: v2, v3, r1 or v3.1 (default: the model's own)")
      ->type_name("NAME")
      ->group(group);
}

int RunDemo(const DemoFlags& f, const ModelOptions& options, const SamplingOptions& sampling,
            const std::string& input_file, const std::string& ids, bool json) {
  if (options.config.empty())
    throw Error("--ckpt-path needs --config", "", "the demo's configuration file", "e.g. --config config_671B.json");
  if (!f.interactive && input_file.empty() && ids.empty()) {
    throw Error("nothing to answer", "", "--interactive, --input-file FILE or --ids LIST");
  }
  ModelOptions with_path = options;
  with_path.model = f.ckpt_path;
  LoadedModel m(with_path);
  const int64_t max_new = f.max_new_tokens.value_or(kDefaultNewTokens);
  if (f.interactive) return RunInteractive(m, f, sampling, max_new);
  if (!input_file.empty()) return RunFile(m, f, sampling, input_file, max_new);
  const engine::Answer a = RunBatch(m, {ParseIds(ids)}, max_new, DemoSampling(sampling), EosIds(m, nullptr)).front();
  const std::string list = fmt::format("{}", fmt::join(a.ids, ","));
  Print(json ? fmt::format("{{\"ids\":[{}],\"finish_reason\":\"{}\"}}\n", list, engine::Name(a.finish_reason))
             : list + "\n");
  return 0;
}

}  // namespace fathom::cli
