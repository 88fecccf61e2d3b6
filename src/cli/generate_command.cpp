// fathom generate: a prompt continued, or a file of prompts as a batch; and DeepSeek's demo by its own flags
// (demo_command.cpp).
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "cli/answer_file.h"
#include "cli/commands.h"
#include "cli/demo_command.h"
#include "cli/loaded_model.h"
#include "cli/numbers.h"
#include "cli/progress_bar.h"
#include "cli/sampling_options.h"
#include "cli/structured_options.h"
#include "cli/terminal.h"
#include "io/file.h"
#include "tokenizer/model_files.h"
#include "tokenizer/text_session.h"

namespace fathom::cli {
namespace {

struct GenerateFlags {
  ModelOptions model;
  SamplingOptions sampling;
  StructuredOptions structured;
  DemoFlags demo;
  std::string prompt, file, ids, input_file, output;
  int64_t max_tokens = 256, ctx_size = 0, chunk = 0, drafts = -1;
  bool no_bos = false, json = false, ignore_eos = false;
};

std::string ReadStdin() {
  std::string text{std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
  return text;
}

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    lines.push_back(line);
  }
  return lines;
}

class Generate {
 public:
  explicit Generate(const GenerateFlags& flags) : f_(flags), m_(flags.model) {}

  int Run() {
    const bool needs_text = f_.ids.empty() || !f_.sampling.stop.empty() || f_.structured.Any();
    LoadText(needs_text);
    ReadPrompts();
    MakeRequests();
    int64_t longest = 0;
    for (const engine::Request& r : requests_)
      longest = std::max<int64_t>(longest, static_cast<int64_t>(r.prompt.size()) + r.max_tokens);
    const int64_t limit = m_.config().max_position_embeddings;
    const int64_t ctx_size = f_.ctx_size > 0 ? f_.ctx_size : std::min(longest, limit);
    for (const engine::Request& r : requests_) {
      if (static_cast<int64_t>(r.prompt.size()) > ctx_size) {
        throw Error("the prompt is longer than the context", fmt::format("{} tokens", r.prompt.size()),
                    f_.ctx_size > 0 ? fmt::format("at most {} (--ctx-size)", ctx_size)
                                    : fmt::format("at most {} (max_position_embeddings)", limit),
                    "shorten the prompt");
      }
    }
    m_.BuildTransformer(ctx_size);
    engine_ = MakeEngine(m_, static_cast<int64_t>(requests_.size()),
                         {.max_context = ctx_size, .step_tokens = f_.chunk, .drafts = f_.drafts});
    if (!f_.output.empty()) file_ = std::make_unique<AnswerFile>(f_.output, prompts_);
    stream_ = !f_.json && !file_ && requests_.size() == 1 && text_;
    if (stream_ && StdoutIsTerminal() && f_.ids.empty()) Print(fmt::format("\033[2m{}\033[0m", prompts_.front()));
    answers_.resize(requests_.size());
    for (size_t i = 0; i < requests_.size(); ++i) {
      if (!file_ || !file_->Has(i)) Ask(i);
    }
    if (requests_.size() == 1) {
      Answer({});
    } else {
      ProgressBar bar("answers", ProgressBar::Unit::kCount);
      try {
        Answer(bar.Callback());
      } catch (const ProgressBar::Stopped& stopped) {
        if (file_) {
          std::fprintf(stderr, "%lld of %zu answers are in %s; the same command goes on from there\n",
                       static_cast<long long>(file_->count()), requests_.size(), f_.output.c_str());
        }
        return stopped.exit_code;
      }
    }
    if (!f_.json) Summary();
    return 0;
  }

 private:
  void LoadText(bool required) {
    try {
      text_.emplace(tokenizer::LoadModelText(f_.model.model));
    } catch (const Error&) {
      if (required) throw;  // with --ids alone a model without a tokenizer is as good
    }
    if (text_) CheckVocabulary(text_->tokenizer, m_.config());
  }

  void ReadPrompts() {
    if (!f_.ids.empty()) return;
    if (!f_.input_file.empty()) {
      prompts_ = Lines(io::ReadFile(f_.input_file, kPromptLimit).Value());
      if (prompts_.empty()) throw Error("no prompts in the file", f_.input_file, "one prompt a line");
    } else if (!f_.prompt.empty()) {
      prompts_ = {f_.prompt};
    } else {
      prompts_ = {f_.file.empty() || f_.file == "-" ? ReadStdin() : io::ReadFile(f_.file, kPromptLimit).Value()};
    }
  }

  void MakeRequests() {
    engine::Request base;
    base.max_tokens = f_.max_tokens;
    base.sampling = Resolve(f_.sampling, m_.checkpoint().generation_config());
    if (!f_.ignore_eos) {
      for (int64_t id : m_.checkpoint().eos_ids()) base.eos_ids.push_back(static_cast<int32_t>(id));
    }
    if (text_) base.grammar = MakeGrammar(f_.structured, text_->tokenizer, m_.config().vocab_size);
    if (!f_.ids.empty()) {
      requests_ = {base};
      requests_[0].prompt = ParseIds(f_.ids);
    }
    for (const std::string& p : prompts_) {
      engine::Request r = base;
      if (!f_.no_bos) r.prompt.push_back(static_cast<int32_t>(m_.config().bos_token_id));
      const std::vector<tokenizer::TokenId> ids = text_->tokenizer.Encode(p);
      r.prompt.insert(r.prompt.end(), ids.begin(), ids.end());
      requests_.push_back(std::move(r));
    }
    for (size_t i = 0; i < requests_.size(); ++i) {
      requests_[i].sampling.seed += i;
      outputs_.emplace_back();
      if (text_) sessions_.emplace_back(text_->tokenizer, tokenizer::TextSessionOptions{.stop = f_.sampling.stop});
    }
  }

  void Ask(size_t i) {
    engine_->Add(requests_[i], {.on_token = [this, i](const engine::Token& token) { return OnToken(i, token.id); },
                                .on_prompt = {},
                                .on_finish =
                                    [this, i](const engine::Answer& a) {
                                      answers_[i] = a;
                                      if (file_ && !a.error)
                                        Finish(i, a);  // the others come in the order of the prompts
                                    }});
    ++asked_;
  }

  // Steps until all is answered, and prints what is next.
  void Answer(const ProgressFn& progress) {
    const auto total = static_cast<int64_t>(asked_);
    int64_t done = 0;
    size_t next = 0;
    const auto finish = [&] {
      for (; next < answers_.size() && answers_[next] && !file_; ++next) {
        if (answers_[next]->error) throw *answers_[next]->error;
        Finish(next, *answers_[next]);
      }
    };
    while (engine_->Step()) {
      finish();
      if (!progress) continue;
      done = std::count_if(answers_.begin(), answers_.end(), [](const auto& a) { return a.has_value(); });
      progress(done, total);
    }
    finish();  // what ended without a step
    for (const auto& a : answers_) {
      if (a && a->error) throw *a->error;
    }
  }

  bool OnToken(size_t i, int32_t id) {
    if (sessions_.empty()) return true;
    const std::string piece = sessions_[i].Push(static_cast<tokenizer::TokenId>(id));
    outputs_[i] += piece;
    if (stream_ && !piece.empty()) Print(piece);
    return !sessions_[i].stopped();
  }

  void Finish(size_t i, const engine::Answer& a) {
    const bool stopped = !sessions_.empty() && sessions_[i].stopped();
    if (!sessions_.empty() && !stopped) {
      const std::string rest = sessions_[i].Finish();
      outputs_[i] += rest;
      if (stream_ && !rest.empty()) Print(rest);
    }
    if (file_) {
      file_->Add(i, Json(i, a, stopped ? "stop" : engine::Name(a.finish_reason)));
    } else if (f_.json) {
      Print(Json(i, a, stopped ? "stop" : engine::Name(a.finish_reason))
                .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) +
            "\n");
    } else if (stream_) {
      Print("\n");
    } else if (text_ && f_.ids.empty()) {
      Print(fmt::format("Prompt: {}\nCompletion: {}\n\n", prompts_[i], outputs_[i]));
    } else {
      Print(fmt::format("{}\n", fmt::join(a.ids, ",")));
    }
  }

  nlohmann::ordered_json Json(size_t i, const engine::Answer& a, std::string_view reason) const {
    const size_t prompt = requests_[i].prompt.size(), answer = a.ids.size();
    const auto rate = [](double n, double s) { return s > 0 ? n / s : 0.0; };
    nlohmann::ordered_json j;
    j["ids"] = a.ids;
    j["text"] = text_ ? nlohmann::ordered_json(outputs_[i]) : nlohmann::ordered_json(nullptr);
    j["finish_reason"] = reason;
    j["usage"] = {{"prompt_tokens", prompt}, {"completion_tokens", answer}, {"total_tokens", prompt + answer}};
    j["timing"] = {{"time_to_first_token_s", a.prompt_seconds},
                   {"decode_s", a.decode_seconds},
                   {"prompt_tokens_per_s", rate(static_cast<double>(prompt), a.prompt_seconds)},
                   {"tokens_per_s", rate(static_cast<double>(answer) - 1, a.decode_seconds)}};
    j["seed"] = requests_[i].sampling.seed;
    return j;
  }

  // The rate of one answer is that of its decoding; of many, that of the run.
  void Summary() const {
    int64_t prompt = 0, answer = 0;
    double first = 0, decode = 0;
    for (const auto& a : answers_) {
      if (!a) continue;
      prompt += a->prompt_tokens;
      answer += static_cast<int64_t>(a->ids.size());
      first = first == 0 ? a->prompt_seconds : std::min(first, a->prompt_seconds);
      decode = a->decode_seconds;
    }
    if (asked_ > 1) decode = engine_->stats().step_seconds;
    const int64_t steps = asked_ > 1 ? answer : answer - 1;
    std::string line = fmt::format("[{}: {} prompt tokens, first token after {:.2f} s; {} tokens", m_.Description(),
                                   prompt, first, answer);
    const engine::EngineStats stats = engine_->stats();
    if (stats.drafted > 0)
      line +=
          fmt::format(", {:.0f} % of {} drafts kept",
                      100 * static_cast<double>(stats.accepted) / static_cast<double>(stats.drafted), stats.drafted);
    if (decode > 0 && steps > 0) line += fmt::format(", {:.1f} tokens/s", static_cast<double>(steps) / decode);
    std::fprintf(stderr, "%s]\n", line.c_str());
  }

  const GenerateFlags& f_;
  LoadedModel m_;
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<AnswerFile> file_;
  bool stream_ = false;
  size_t asked_ = 0;
  std::vector<std::optional<engine::Answer>> answers_;
  std::optional<tokenizer::ModelText> text_;
  std::vector<std::string> prompts_, outputs_;
  std::vector<engine::Request> requests_;
  std::vector<tokenizer::TextSession> sessions_;
};

}  // namespace

void AddGenerateCommand(CLI::App& app, int& exit_code) {
  auto f = std::make_shared<GenerateFlags>();
  CLI::App* c = app.add_subcommand("generate", "Continue a prompt");
  c->add_option("MODEL", f->model.model, "Checkpoint directory (config.json, *.safetensors)");
  CLI::Option* prompt = c->add_option("--prompt,-p", f->prompt, "The prompt (default: standard input)");
  CLI::Option* file = c->add_option("--file,-f", f->file, "Read the prompt from this file; - is standard input");
  CLI::Option* ids =
      c->add_option("--ids", f->ids, "The prompt as token ids, comma-separated; nothing is added")->type_name("LIST");
  CLI::Option* batch = c->add_option("--input-file", f->input_file, "One prompt a line, run together as a batch");
  prompt->excludes(file)->excludes(ids)->excludes(batch);
  file->excludes(ids)->excludes(batch);
  ids->excludes(batch);
  c->add_option("--output,-o", f->output,
                "Write the answers of --input-file here as JSON lines, as they come; run again, it goes on behind them")
      ->needs(batch);
  c->add_flag("--no-bos", f->no_bos, "Do not put the model's bos token before the prompt");
  c->add_option("--max-tokens,-n", f->max_tokens, "Tokens of the answer at most")
      ->capture_default_str()
      ->check(kNonNegative);
  c->add_flag("--ignore-eos", f->ignore_eos, "Go on after the end-of-sentence token");
  c->add_flag("--json", f->json, "Print {ids, text, finish_reason, usage, timing}, a line for each prompt");
  c->add_option("--ctx-size,-c", f->ctx_size,
                "Positions to keep room for (default: what the prompt and --max-tokens need)")
      ->check(kPositive);
  c->add_option("--chunk", f->chunk, "Prompt tokens read in one step (default: by memory, 2048 at most)")
      ->check(kPositive);
  AddDraftsOption(*c, f->drafts);
  AddSamplingOptions(*c, f->sampling);
  AddModelOptions(*c, f->model, /*positional=*/false);
  AddDemoOptions(*c, f->demo);
  AddStructuredOptions(*c, f->structured, {"--ckpt-path"});
  c->footer(
      "Examples:\n"
      "  fathom generate models/fathom-16m -p \"Once upon a time\" --max-tokens 64\n"
      "  echo \"The fox\" | fathom generate MODEL --temperature 0\n"
      "  fathom generate MODEL --ids 5,17 --max-tokens 48 --temperature 0 --json\n"
      "  fathom generate MODEL --input-file prompts.txt --output answers.jsonl\n"
      "  fathom generate MODEL -p \"Ada, 36: \" --json-schema person.json\n"
      "  fathom generate MODEL -p \"Is it warm? \" --choice yes --choice no\n"
      "  fathom generate --ckpt-path SHARDS --config config.json --interactive\n");
  c->callback([f, &exit_code] {
    if (!f->demo.ckpt_path.empty()) {
      exit_code = RunDemo(f->demo, f->model, f->sampling, f->input_file, f->ids, f->json);
      return;
    }
    if (f->model.model.empty()) throw CLI::RequiredError("MODEL");
    exit_code = Generate(*f).Run();
  });
}

}  // namespace fathom::cli
