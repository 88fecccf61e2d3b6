#include "cli/tokenizer_train.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/numbers.h"
#include "cli/progress_bar.h"
#include "cli/terminal.h"
#include "data/notices.h"
#include "data/records.h"
#include "data/source.h"
#include "io/file.h"
#include "tokenizer/bpe_trainer.h"
#include "tokenizer/piece_counter.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/v3_files.h"

namespace fathom::cli {
namespace {

namespace fs = std::filesystem;

struct TokenizerTrainFlags {
  std::vector<std::string> corpus;
  std::string out, format = "auto", text_key = "text";
  int64_t vocab_size = 0, min_frequency = 2, model_max_length = 131072;
  int threads = 0;
  bool force = false;
};

// What was left out of the corpus, the first of each file and kind.
void Warn(data::Notices& notices) {
  for (const data::Notice& n : notices.Take()) std::fprintf(stderr, "fathom: warning: %s\n", ToString(n).c_str());
}

std::vector<data::SourceFile> Files(const TokenizerTrainFlags& flags, data::Notices& notices) {
  std::vector<data::SourceFile> files;
  for (const std::string& path : flags.corpus) {
    data::SourceOptions source;
    source.path = path;
    source.format = flags.format;
    for (data::SourceFile& file : data::ListFiles(source, notices)) files.push_back(std::move(file));
  }
  return files;
}

void Count(const std::vector<data::SourceFile>& files, const TokenizerTrainFlags& flags, data::Notices& notices,
           tokenizer::PieceCounter& counter, const ProgressFn& progress) {
  int64_t total = 0, done = 0;
  for (const data::SourceFile& file : files) total += file.bytes;
  std::string text;
  for (const data::SourceFile& file : files) {
    data::RecordOptions options;
    options.format = file.format;
    options.text_key = flags.text_key;
    data::RecordReader reader(file.path, file.compression, options, notices);
    while (reader.Next(&text)) {
      counter.Append(text);
      counter.EndDocument();
      progress(done + std::min(reader.position(), file.bytes), total);
    }
    done += file.bytes;
  }
}

// The files to write, opened before the work, so that a place that cannot be written to is known at once.
struct Output {
  std::string path;  // of tokenizer.json
  std::optional<io::AtomicFile> tokenizer, config;
};

void Open(const TokenizerTrainFlags& flags, Output& out) {
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

int RunTrain(const TokenizerTrainFlags& flags) {
  tokenizer::BpeTrainOptions options;
  options.vocab_size = flags.vocab_size;
  options.min_frequency = flags.min_frequency;
  options.special_tokens = tokenizer::V3FirstTokens();
  options.reserved = static_cast<int64_t>(tokenizer::V3LastTokens().size());
  tokenizer::CheckVocabSize(options);
  data::Notices notices;
  const std::vector<data::SourceFile> files = Files(flags, notices);
  Output out;
  Open(flags, out);

  ThreadPool pool(flags.threads > 0 ? flags.threads : DefaultThreadCount());
  tokenizer::PieceCounter counter(pool);
  tokenizer::BpeSource bpe;
  double seconds = 0;
  size_t pieces = 0;
  try {
    std::vector<tokenizer::PieceCount> counts;
    {
      ProgressBar bar("reading");
      Count(files, flags, notices, counter, bar.Callback());
      counts = counter.Pieces();
      seconds += bar.Seconds();
    }
    Warn(notices);
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
                    size, bpe.merges.size(), io::HumanBytes(counter.bytes()), counter.documents(),
                    counter.documents() == 1 ? "" : "s", pieces, seconds));
  return 0;
}

}  // namespace

void AddTokenizerTrain(CLI::App& tokenizer, int& exit_code) {
  CLI::App* c = tokenizer.add_subcommand("train", "Build a tokenizer from a corpus");
  const auto flags = std::make_shared<TokenizerTrainFlags>();
  c->add_option("CORPUS", flags->corpus,
                "Files and folders of text (a file is a document) and JSON lines, also .gz and .zst")
      ->required();
  c->add_option("--vocab-size", flags->vocab_size, "Token ids in all, with 256 bytes and 18 special tokens, e.g. 32768")
      ->required()
      ->type_name("N");
  c->add_option("--out,-o", flags->out, "tokenizer.json to write, or a folder: tokenizer_config.json is put beside it")
      ->required()
      ->type_name("FILE_OR_DIR");
  c->add_option("--min-frequency", flags->min_frequency, "A pair that occurs less often is not joined")
      ->check(kPositive)
      ->type_name("N")
      ->capture_default_str();
  c->add_option("--format", flags->format, "What the files are; auto goes by their names: .txt, .jsonl, .ndjson")
      ->check(CLI::IsMember({"auto", "text", "jsonl"}))
      ->type_name("NAME")
      ->capture_default_str();
  c->add_option("--text-key", flags->text_key, "The key of a JSON line that holds the text")
      ->type_name("KEY")
      ->capture_default_str();
  c->add_option("--model-max-length", flags->model_max_length, "What tokenizer_config.json says of the model")
      ->check(kPositive)
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
