#include "cli/tokenizer_train.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/corpus_files.h"
#include "cli/progress_bar.h"
#include "cli/terminal.h"
#include "io/file.h"
#include "tokenizer/bpe_trainer.h"
#include "tokenizer/piece_counter.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/v3_files.h"

namespace fathom::cli {
namespace {

namespace fs = std::filesystem;

struct TrainFlags {
  std::vector<std::string> corpus;
  std::string out;
  int64_t vocab_size = 0, min_frequency = 2, model_max_length = 131072;
  int threads = 0;
  bool force = false;
};

class Counting : public DocumentSink {
 public:
  explicit Counting(ThreadPool& pool) : counter(pool) {}
  void Append(std::string_view bytes) override { counter.Append(bytes); }
  void EndDocument() override { counter.EndDocument(); }
  tokenizer::PieceCounter counter;
};

// The files to write, opened before the work, so that a place that cannot be written to is known at once.
struct Output {
  std::string path;  // of tokenizer.json
  std::optional<io::AtomicFile> tokenizer, config;
};

void Open(const TrainFlags& flags, Output& out) {
  const bool is_file = flags.out.ends_with(".json") && !fs::is_directory(flags.out);
  std::string config;
  out.path = flags.out;
  if (!is_file) {
    std::error_code error;
    fs::create_directories(flags.out, error);
    if (error) throw io::FileError("cannot make the folder " + flags.out, flags.out, error.value());
    out.path = (fs::path(flags.out) / "tokenizer.json").string();
    config = (fs::path(flags.out) / "tokenizer_config.json").string();
  }
  for (const std::string& path : {out.path, config}) {
    if (flags.force || path.empty() || !fs::exists(path)) continue;
    throw Error("there is a tokenizer already", path, "a new place", "--force replaces it");
  }
  out.tokenizer.emplace(out.path);
  if (!config.empty()) out.config.emplace(config);
}

int RunTrain(const TrainFlags& flags) {
  tokenizer::BpeTrainOptions options;
  options.vocab_size = flags.vocab_size;
  options.min_frequency = flags.min_frequency;
  options.special_tokens = tokenizer::V3FirstTokens();
  options.reserved = static_cast<int64_t>(tokenizer::V3LastTokens().size());
  tokenizer::CheckVocabSize(options);
  const std::vector<std::string> files = FindCorpusFiles(flags.corpus);
  Output out;
  Open(flags, out);

  ThreadPool pool(flags.threads > 0 ? flags.threads : DefaultThreadCount());
  Counting corpus(pool);
  tokenizer::BpeSource bpe;
  double seconds = 0;
  size_t pieces = 0;
  try {
    std::vector<tokenizer::PieceCount> counts;
    {
      ProgressBar bar("reading");
      ReadCorpus(files, corpus, bar.Callback());
      counts = corpus.counter.Pieces();
      seconds += bar.Seconds();
    }
    if (counts.empty()) {
      throw Error("the corpus is empty",
                  fmt::format("{} file{} without text", files.size(), files.size() == 1 ? "" : "s"),
                  "some text to learn a vocabulary from");
    }
    pieces = counts.size();
    ProgressBar bar("merging", ProgressBar::Unit::kCount);
    options.progress = bar.Callback();
    bpe = tokenizer::TrainBpe(std::move(counts), options);
    seconds += bar.Seconds();
  } catch (const ProgressBar::Stopped& stopped) {
    return stopped.exit_code;
  }
  if (corpus.counter.repaired() > 0)
    std::fprintf(stderr, "fathom: warning: the corpus has invalid UTF-8; each invalid part counts as one U+FFFD\n");
  const int64_t size = static_cast<int64_t>(bpe.vocabulary.size()) + options.reserved;
  if (size < flags.vocab_size) {
    std::fprintf(
        stderr, "%s",
        fmt::format("fathom: warning: the vocabulary has {} ids, not {}: no pair of tokens is left that occurs "
                    "{}; more text gives more\n",
                    size, flags.vocab_size,
                    flags.min_frequency > 1 ? fmt::format("{} times", flags.min_frequency) : "at all")
            .c_str());
  }
  const std::string json = tokenizer::V3TokenizerJson(bpe);
  out.tokenizer->Write(json);
  if (out.config) {
    out.config->Write(tokenizer::V3TokenizerConfig(flags.model_max_length));
    out.config->Commit();
  }
  out.tokenizer->Commit();
  Print(fmt::format("{}: {} ids, {} merges, from {} in {} document{}, {} distinct pieces, in {:.1f} s\n", out.path,
                    size, bpe.merges.size(), io::HumanBytes(corpus.counter.bytes()), corpus.counter.documents(),
                    corpus.counter.documents() == 1 ? "" : "s", pieces, seconds));
  return 0;
}

}  // namespace

void AddTokenizerTrain(CLI::App& tokenizer, int& exit_code) {
  CLI::App* c = tokenizer.add_subcommand("train", "Build a tokenizer from a corpus");
  const auto flags = std::make_shared<TrainFlags>();
  c->add_option("CORPUS", flags->corpus, "Files and folders: .txt (a file is a document), .jsonl (\"text\"), also .gz")
      ->required();
  c->add_option("--vocab-size", flags->vocab_size, "Token ids in all, with 256 bytes and 18 special tokens, e.g. 32768")
      ->required()
      ->type_name("N");
  c->add_option("--out,-o", flags->out, "tokenizer.json to write, or a folder: tokenizer_config.json is put beside it")
      ->required()
      ->type_name("FILE_OR_DIR");
  c->add_option("--min-frequency", flags->min_frequency, "A pair that occurs less often is not joined")
      ->check(CLI::PositiveNumber)
      ->type_name("N")
      ->capture_default_str();
  c->add_option("--model-max-length", flags->model_max_length, "What tokenizer_config.json says of the model")
      ->check(CLI::PositiveNumber)
      ->type_name("N")
      ->capture_default_str();
  c->add_option("--threads,-t", flags->threads, "Threads (default: one for each core that this process may use)")
      ->check(CLI::Range(1, 1024));
  c->add_flag("--force", flags->force, "Replace a tokenizer that is there already");
  c->footer(
      "Byte-level BPE with DeepSeek-V3's pre-tokenizer and special tokens, in the form that Hugging Face tokenizers "
      "loads:\n"
      "bos 0, eos 1, pad 2, then bytes and merges, then the FIM, chat and tool tokens. The same corpus gives the same "
      "file\n"
      "with any number of threads.\n"
      "Example: fathom tokenizer train corpus/ --vocab-size 32768 --out my-tokenizer");
  c->callback([flags, &exit_code] { exit_code = RunTrain(*flags); });
}

}  // namespace fathom::cli
