// fathom corpus: writes the text that the default model is trained on, stories and dialogues by the project's own
// generators and documents out of books.
#include <fmt/format.h>
#include <zstd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/commands.h"
#include "cli/corpus_recall.h"
#include "cli/terminal.h"
#include "corpus/books.h"
#include "corpus/dialogues.h"
#include "corpus/stories.h"
#include "data/exclusion.h"
#include "data/records.h"
#include "data/source.h"
#include "io/file.h"

namespace fathom::cli {
namespace {

using Json = nlohmann::ordered_json;

struct CorpusFlags {
  std::string kind, out, exclude;
  std::vector<std::string> inputs;
  uint64_t seed = 0;
  int64_t documents = 0;
  RecallFlags recall;
};

std::string Line(const Json& row) { return row.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; }

// The kinds that are made of nothing: document `index` of a corpus with this seed, the same on any machine.
using Generator = std::function<Json(uint64_t seed, int64_t index)>;
const std::map<std::string, Generator>& Generators() {
  static const std::map<std::string, Generator> generators = {
      {"dialogues",
       [](uint64_t seed, int64_t index) {
         Json messages = Json::array();
         for (const corpus::Message& m : corpus::DrawDialogue(seed, index)) {
           messages.push_back({{"role", m.role}, {"content", m.content}});
         }
         return Json{{"messages", messages}};
       }},
      {"stories",
       [](uint64_t seed, int64_t index) {
         return Json{{"text", corpus::StoryDocument(seed, index)}};
       }},
  };
  return generators;
}

// What goes on when it is written: the whole corpus, compressed if the name ends in .zst.
void WriteCorpus(const std::string& path, const std::string& lines) {
  constexpr int kLevel = 22;
  if (!path.ends_with(".zst")) return io::WriteFileAtomically(path, lines);
  std::string packed(ZSTD_compressBound(lines.size()), '\0');
  const size_t size = ZSTD_compress(packed.data(), packed.size(), lines.data(), lines.size(), kLevel);
  if (ZSTD_isError(size)) throw Error("cannot compress the corpus", ZSTD_getErrorName(size));
  packed.resize(size);
  io::WriteFileAtomically(path, packed);
}

// "War and Peace" of "War-and-Peace_2600.txt.gz".
std::string TitleOf(const std::string& path) {
  std::string name = std::filesystem::path(path).filename().string();
  name = name.substr(0, name.find_first_of("_."));
  std::replace(name.begin(), name.end(), '-', ' ');
  return name;
}

template <class Each>
void ForEachDocument(const std::string& path, const std::string& format, const Each& each) {
  data::Notices notices;
  data::SourceOptions source;
  source.path = path;
  source.format = format;
  std::string text;
  for (const data::SourceFile& file : data::ListFiles(source, notices)) {
    data::RecordOptions options;
    options.format = file.format;
    data::RecordReader reader(file.path, file.compression, options, notices);
    while (reader.Next(&text)) each(file.path, text);
  }
  for (const data::Notice& n : notices.Take()) std::fprintf(stderr, "fathom: warning: %s\n", ToString(n).c_str());
}

// What remains beside a cut, from the beginning of a paragraph to the end of one; nothing where that is short.
std::string WholeParagraphs(const std::string& rest, const std::string& whole) {
  constexpr size_t kLeast = 300;
  size_t begin = 0, end = rest.size();
  if (!whole.starts_with(rest.substr(0, 40))) begin = rest.find("\n\n");
  if (!whole.ends_with(rest.substr(rest.size() > 40 ? rest.size() - 40 : 0))) end = rest.rfind("\n\n");
  if (begin == std::string::npos || end == std::string::npos || end < begin + kLeast) return {};
  const size_t text = rest.find_first_not_of('\n', begin);
  return text < end ? rest.substr(text, end - text) : std::string();
}

std::string Books(const CorpusFlags& flags, int64_t* documents) {
  if (flags.inputs.empty()) throw Error("no books", "", "files after the kind", "fathom corpus books A.txt B.txt.gz");
  data::Exclusion exclusion;
  if (!flags.exclude.empty()) {
    ForEachDocument(flags.exclude, "jsonl", [&](const std::string&, const std::string& text) { exclusion.Add(text); });
  }
  std::string lines;
  const auto add = [&](const std::string& book, const std::string& text) {
    lines += Line({{"book", book}, {"text", text}});
    ++*documents;
  };
  for (const std::string& input : flags.inputs) {
    ForEachDocument(input, "text", [&](const std::string& path, const std::string& text) {
      for (const corpus::BookDocument& d : corpus::CleanBooks(text, TitleOf(path))) {
        std::vector<std::string> rest;
        if (!exclusion.Cut(d.text, &rest)) {
          add(d.book, d.text);
          continue;
        }
        for (const std::string& r : rest) {
          const std::string kept = WholeParagraphs(r, d.text);
          if (!kept.empty()) add(d.book, kept);
        }
      }
    });
  }
  return lines;
}

int RunCorpus(const CorpusFlags& flags) {
  std::string lines;
  int64_t documents = 0;
  if (flags.kind == "books") {
    lines = Books(flags, &documents);
  } else {
    if (!flags.inputs.empty())
      throw Error("only books are made from files", flags.inputs.front(), "nothing after the kind");
    if (flags.documents <= 0) throw Error("how many documents?", "", "--documents N");
    const Generator generate = flags.kind == "recall" ? RecallGenerator(flags.recall) : Generators().at(flags.kind);
    for (; documents < flags.documents; ++documents) lines += Line(generate(flags.seed, documents));
  }
  if (documents == 0)
    throw Error("nothing is left to write", fmt::format("{} files without running text", flags.inputs.size()));
  WriteCorpus(flags.out, lines);
  Print(
      fmt::format("{}: {} documents, {}\n", flags.out, documents, io::HumanBytes(static_cast<int64_t>(lines.size()))));
  return 0;
}

}  // namespace

void AddCorpusCommand(CLI::App& app, int& exit_code) {
  auto* c = app.add_subcommand("corpus", "Write text to train on: generated, or cleaned from books");
  const auto flags = std::make_shared<CorpusFlags>();
  std::vector<std::string> kinds = {"books", "recall"};
  for (const auto& [name, generator] : Generators()) kinds.push_back(name);
  c->add_option("KIND", flags->kind, "What to write")->required()->check(CLI::IsMember(kinds));
  c->add_option("BOOKS", flags->inputs, "books: files of text, also .gz and .zst");
  c->add_option("--out,-o", flags->out, "JSON lines to write; compressed if the name ends in .zst")
      ->required()
      ->type_name("FILE");
  c->add_option("--seed", flags->seed, "The same seed gives the same documents")->capture_default_str();
  c->add_option("--documents,-n", flags->documents, "How many documents to generate")->type_name("N");
  c->add_option("--exclude", flags->exclude, "books: JSON lines of texts that are to be left out")->type_name("FILE");
  AddRecallOptions(*c, flags->recall);
  c->footer(
      "Examples:\n"
      "  fathom corpus stories --out stories.jsonl --seed 1 --documents 20000\n"
      "  fathom corpus recall --out recall.jsonl --documents 20000 --tokenizer MODEL --length 2048\n"
      "  fathom corpus books --out books.jsonl.zst --exclude heldout.jsonl Emma_158.txt.gz\n");
  c->callback([flags, &exit_code] { exit_code = RunCorpus(*flags); });
}

}  // namespace fathom::cli
