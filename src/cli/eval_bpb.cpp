// fathom eval bpb: how well a model predicts documents, in nats a token and bits a byte.
#include "cli/eval_bpb.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/loaded_model.h"
#include "cli/progress_bar.h"
#include "cli/terminal.h"
#include "data/byte_reader.h"
#include "eval/text_loss.h"
#include "tokenizer/model_files.h"

namespace fathom::cli {
namespace {

using Json = nlohmann::ordered_json;

struct BpbFlags {
  ModelOptions model;
  std::string file, key = "kind", text_key = "text";
  int64_t window = 512, greedy = 0;
  bool json = false;
};

struct Document {
  std::string kind;  // "" without the key
  std::vector<int32_t> ids;
  int64_t bytes = 0;
};

constexpr int64_t kPrompt = 32, kAnswer = 96;  // tokens of a greedy continuation

std::string ReadAll(const std::string& path) {
  constexpr int64_t kStep = 1 << 16;
  std::string_view stem;
  const data::Compression compression = data::CompressionOf(path, &stem);
  const std::unique_ptr<data::ByteReader> reader = data::ByteReader::Open(path, compression).Value();
  std::string text;
  for (;;) {
    const size_t size = text.size();
    text.resize(size + kStep);
    const int64_t n = reader->Read(text.data() + size, kStep).Value();
    text.resize(size + static_cast<size_t>(n));
    if (n == 0) return text;
  }
}

std::vector<Document> ReadDocuments(const BpbFlags& flags, const tokenizer::Tokenizer& tokenizer, int32_t eos) {
  std::vector<Document> documents;
  const std::string text = ReadAll(flags.file);
  int64_t number = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = std::string_view(text).substr(at, end - at);
    at = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const Json row = Json::parse(line, nullptr, false);
    const auto found = row.is_object() ? row.find(flags.text_key) : row.end();
    if (!row.is_object() || found == row.end() || !found->is_string()) {
      throw Error(fmt::format("line {} of {} has no text", number, flags.file), std::string(line.substr(0, 80)),
                  fmt::format("an object with \"{}\"", flags.text_key), "--text-key names another");
    }
    const std::string& document = found->get_ref<const std::string&>();
    Document d;
    const auto kind = row.find(flags.key);
    if (kind != row.end()) d.kind = kind->is_string() ? kind->get<std::string>() : kind->dump();
    d.bytes = static_cast<int64_t>(document.size());
    for (const tokenizer::TokenId id : tokenizer.Encode(document, {.parse_special = false, .add_bos = true})) {
      d.ids.push_back(static_cast<int32_t>(id));
    }
    d.ids.push_back(eos);
    documents.push_back(std::move(d));
  }
  if (documents.empty()) throw Error("no documents", flags.file, "JSON lines with text");
  return documents;
}

// The share of the first module's drafts that greedy decoding keeps, over the beginnings of documents evenly chosen.
struct Greedy {
  int64_t prompts = 0, drafted = 0, accepted = 0;
};
Greedy RunGreedy(LoadedModel& model, const std::vector<Document>& documents, int64_t count) {
  std::vector<const Document*> fit;
  for (const Document& d : documents) {
    if (static_cast<int64_t>(d.ids.size()) > kPrompt + 1) fit.push_back(&d);
  }
  Greedy greedy;
  if (fit.empty() || model.transformer().mtp_depth() == 0) return greedy;
  count = std::min<int64_t>(count, static_cast<int64_t>(fit.size()));
  engine::EngineOptions options;
  options.max_context = 1 + kPrompt + kAnswer;
  options.drafts = 1;
  options.always_draft = true;
  options.prefix_cache = false;
  const std::unique_ptr<engine::Engine> engine = MakeEngine(model, count, options);
  std::vector<engine::Request> requests;
  for (int64_t i = 0; i < count; ++i) {
    const Document& d = *fit[static_cast<size_t>(i) * fit.size() / static_cast<size_t>(count)];
    engine::Request r;
    r.prompt.assign(d.ids.begin(), d.ids.begin() + 1 + kPrompt);
    r.max_tokens = kAnswer;
    r.sampling.temperature = 0;
    requests.push_back(std::move(r));
  }
  for (const engine::Answer& a : engine->Run(requests)) {
    ++greedy.prompts;
    greedy.drafted += a.drafted;
    greedy.accepted += a.accepted;
  }
  return greedy;
}

Json Row(const eval::TextLoss& loss) {
  Json row = {{"documents", loss.documents},
              {"tokens", loss.tokens},
              {"bytes", loss.bytes},
              {"nats_per_token", loss.nats_per_token()},
              {"perplexity", loss.perplexity()},
              {"perplexity_per_byte", loss.byte_perplexity()},
              {"bits_per_byte", loss.bits_per_byte()}};
  if (loss.mtp_tokens > 0) {
    row["mtp_nats_per_token"] = loss.mtp_nats_per_token();
    row["mtp_agreement"] = loss.mtp_agreement();
  }
  return row;
}

std::string TableRow(const std::string& name, const eval::TextLoss& loss) {
  std::string line =
      fmt::format("{:<12} {:>9} {:>9} {:>9} {:>10.4f} {:>10.2f} {:>10.4f}", name, loss.documents, loss.tokens,
                  loss.bytes, loss.nats_per_token(), loss.perplexity(), loss.bits_per_byte());
  if (loss.mtp_tokens > 0) {
    line += fmt::format(" {:>10.4f} {:>8.1f} %", loss.mtp_nats_per_token(), 100 * loss.mtp_agreement());
  }
  return line + "\n";
}

int RunBpb(const BpbFlags& flags) {
  LoadedModel model(flags.model);
  const tokenizer::ModelText text = tokenizer::LoadModelText(flags.model.model);
  CheckVocabulary(text.tokenizer, model.config());
  const std::vector<Document> documents =
      ReadDocuments(flags, text.tokenizer, static_cast<int32_t>(model.config().eos_token_id.front()));
  model.BuildTransformer(flags.greedy > 0 ? std::max(flags.window, 1 + kPrompt + kAnswer) : flags.window);
  std::fprintf(stderr, "%s\n", model.Description().c_str());
  std::map<std::string, eval::TextLoss> kinds;
  eval::TextLoss all;
  try {
    ProgressBar bar("documents", ProgressBar::Unit::kCount);
    const ProgressFn progress = bar.Callback();
    eval::TextMeter meter(model.transformer(), model.ctx(), model.compute(), flags.window);
    for (const Document& d : documents) {
      const eval::TextLoss loss = meter.Measure(d.ids, d.bytes);
      all.Add(loss);
      kinds[d.kind].Add(loss);
      progress(all.documents, static_cast<int64_t>(documents.size()));
    }
  } catch (const ProgressBar::Stopped& stopped) {
    return stopped.exit_code;
  }
  const Greedy greedy = flags.greedy > 0 ? RunGreedy(model, documents, flags.greedy) : Greedy{};
  const double acceptance =
      greedy.drafted > 0 ? static_cast<double>(greedy.accepted) / static_cast<double>(greedy.drafted) : 0;
  const bool by_kind = kinds.size() > 1 || !kinds.begin()->first.empty();
  if (flags.json) {
    Json out = {{"model", flags.model.model}, {"file", flags.file}, {"window", flags.window}, {"all", Row(all)}};
    for (const auto& [kind, loss] : kinds) {
      if (by_kind) out["kinds"][kind] = Row(loss);
    }
    if (greedy.drafted > 0) {
      out["greedy"] = {{"prompts", greedy.prompts},
                       {"drafted", greedy.drafted},
                       {"accepted", greedy.accepted},
                       {"acceptance", acceptance}};
    }
    Print(out.dump(2) + "\n");
    return 0;
  }
  std::string table = fmt::format("{:<12} {:>9} {:>9} {:>9} {:>10} {:>10} {:>10}", flags.key, "documents", "tokens",
                                  "bytes", "nats/token", "perplexity", "bits/byte");
  table += all.mtp_tokens > 0 ? fmt::format(" {:>10} {:>10}\n", "MTP nats", "MTP agrees") : "\n";
  for (const auto& [kind, loss] : kinds) {
    if (by_kind) table += TableRow(kind.empty() ? "-" : kind, loss);
  }
  table += TableRow("all", all);
  if (greedy.drafted > 0) {
    table += fmt::format("greedy text: {:.1f} % of {} drafts accepted ({} beginnings of {} tokens, {} tokens each)\n",
                         100 * acceptance, greedy.drafted, greedy.prompts, kPrompt, kAnswer);
  }
  Print(table);
  return 0;
}

}  // namespace

void AddBpb(CLI::App& eval, int& exit_code) {
  auto* c = eval.add_subcommand("bpb", "How well documents are predicted: nats a token, bits a byte");
  const auto flags = std::make_shared<BpbFlags>();
  AddModelOptions(*c, flags->model);
  c->add_option("FILE", flags->file, "JSON lines, also .gz and .zst")->required();
  c->add_option("--window", flags->window, "Tokens of a window; each is predicted from at least half as many")
      ->check(CLI::Range(16, 1 << 20))
      ->capture_default_str();
  c->add_option("--greedy", flags->greedy,
                "Continue the beginnings of N documents greedily, with drafts of the MTP module")
      ->check(CLI::Range(0, 4096))
      ->type_name("N");
  c->add_option("--by", flags->key, "The key of a line by which results are told apart")->capture_default_str();
  c->add_option("--text-key", flags->text_key, "The key of a line that holds the text")->capture_default_str();
  c->add_flag("--json", flags->json, "Print the result as JSON");
  c->footer(
      "Scored is every token behind the beginning-of-sequence token, the end of the document included.\n"
      "Example: fathom eval bpb models/fathom-16m configs/runs/text/heldout.jsonl --greedy 24");
  c->callback([flags, &exit_code] { exit_code = RunBpb(*flags); });
}

}  // namespace fathom::cli
