#include "cli/corpus_recall.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "core/error.h"
#include "data/records.h"
#include "data/source.h"
#include "tokenizer/model_files.h"

namespace fathom::cli {

std::map<std::string, corpus::RecallForm> RecallForms() {
  return {{"sentences", corpus::RecallForm::kSentences}, {"notes", corpus::RecallForm::kNotes}};
}

std::vector<std::string> ReadSentences(const std::string& path) {
  std::vector<std::string> sentences;
  data::Notices notices;
  data::SourceOptions source;
  source.path = path;
  for (const data::SourceFile& file : data::ListFiles(source, notices)) {
    data::RecordOptions options;
    options.format = file.format;
    data::RecordReader reader(file.path, file.compression, options, notices);
    for (std::string text; reader.Next(&text);) {
      std::vector<std::string> some = corpus::SentencesOf(text);
      sentences.insert(sentences.end(), some.begin(), some.end());
    }
  }
  if (sentences.empty()) throw Error("no sentences to be filler in " + path, "", "English text");
  return sentences;
}

void AddRecallOptions(CLI::App& c, RecallFlags& flags) {
  constexpr int64_t kLongest = 1 << 24;
  corpus::RecallOptions& o = flags.options;
  const char* group = "recall: facts that are asked for later in the document";
  c.add_option("--length", o.most, "Longest document, in bytes or, with --tokenizer, tokens")
      ->check(CLI::Range(int64_t{32}, kLongest))
      ->capture_default_str()
      ->group(group);
  c.add_option("--least-length", o.least, "Shortest; lengths are log-uniform between the two")
      ->check(CLI::Range(int64_t{32}, kLongest))
      ->capture_default_str()
      ->group(group);
  c.add_option("--tokenizer", flags.tokenizer, "tokenizer.json or its folder: lengths are of its tokens")
      ->type_name("PATH")
      ->group(group);
  c.add_option("--form", o.form, "sentences, or notes, which small models learn")
      ->transform(CLI::CheckedTransformer(RecallForms(), CLI::ignore_case))
      ->type_name("NAME")
      ->group(group);
  c.add_option("--filler", flags.filler, "Text whose sentences stand between facts (default: built-in)")
      ->type_name("FILE")
      ->group(group);
  c.add_option("--filler-share", o.filler, "Of a document, at most")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->group(group);
  c.add_option("--keys", o.keys, "Facts of a document, at most")
      ->check(CLI::Range(1, 40))
      ->capture_default_str()
      ->group(group);
  c.add_option("--lists", o.lists, "Share of documents that repeat a list of words instead")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str()
      ->group(group);
}

std::function<nlohmann::ordered_json(uint64_t seed, int64_t index)> RecallGenerator(const RecallFlags& flags) {
  auto options = std::make_shared<corpus::RecallOptions>(flags.options);
  if (options->least > options->most) {
    throw Error("--least-length is above --length", fmt::format("{} and {}", options->least, options->most),
                "--least-length <= --length");
  }
  if (!flags.filler.empty()) options->sentences = ReadSentences(flags.filler);
  corpus::LengthOf length = [](std::string_view text) { return static_cast<int64_t>(text.size()); };
  if (!flags.tokenizer.empty()) {
    const auto text = std::make_shared<tokenizer::ModelText>(tokenizer::LoadModelText(flags.tokenizer));
    length = [text](std::string_view s) { return static_cast<int64_t>(text->tokenizer.Encode(s).size()); };
  }
  return [options, length](uint64_t seed, int64_t index) {
    std::string text = corpus::RecallDocument(seed, index, *options, length);
    if (text.empty()) {
      throw Error("documents are too short for a fact and its question", fmt::format("{}", options->least),
                  "a greater --least-length");
    }
    return nlohmann::ordered_json{{"text", std::move(text)}};
  };
}

}  // namespace fathom::cli
