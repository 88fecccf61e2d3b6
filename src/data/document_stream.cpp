#include "data/document_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "data/hash.h"

namespace fathom::data {
namespace {

using nlohmann::json;

constexpr uint64_t kSourceSeed = 0x535243, kValidationSeed = 0x56414C;
constexpr int64_t kMinBlockBytes = 1 << 20, kMaxBlockBytes = 64 << 20;
constexpr int64_t kCompressionGuess = 3;

std::string Hex(uint64_t value) { return fmt::format("{:016x}", value); }

// The vocabulary, bos and eos, and what the merges make of a sentence.
uint64_t HashTokenizer(const tokenizer::Tokenizer& t) {
  uint64_t hash =
      HashPair(static_cast<uint64_t>(t.bos_id().value_or(-1)), static_cast<uint64_t>(t.eos_id().value_or(-1)));
  for (int32_t id = 0; id < t.vocab_size(); ++id) hash = HashText(t.TokenBytes(id), hash);
  for (const int32_t id :
       t.Encode("Whether two tokenizers are one and the same, a sentence of 12 words tells: 是的。\n")) {
    hash = HashPair(hash, static_cast<uint64_t>(id));
  }
  return hash;
}

Exclusion ReadExclusion(const DataOptions& options) {
  Exclusion exclusion;
  if (options.exclude.empty()) return exclusion;
  SourceOptions where;
  where.path = options.exclude;
  where.format = "jsonl";
  RecordOptions records;
  records.format = Format::kJsonl;
  records.max_document_bytes = options.max_document_bytes;
  Notices notices;
  for (const SourceFile& file : ListFiles(where, notices)) {
    RecordReader reader(file.path, file.compression, records, notices);
    for (std::string text; reader.Next(&text);) exclusion.Add(text);
  }
  const std::vector<Notice> wrong = notices.Take();
  if (!wrong.empty()) {  // what cannot be read here would be trained on
    throw Error("data: the documents to exclude cannot all be read", ToString(wrong[0]),
                "a JSON object with a key \"text\" a line");
  }
  if (exclusion.empty()) throw Error("data: no documents in exclude", options.exclude, "a document or more");
  return exclusion;
}

std::optional<tokenizer::ChatTemplate> TemplateOf(const DataOptions& options) {
  if (!HasChat(options)) return std::nullopt;
  if (options.chat_template.empty()) {
    throw Error("data: conversations need a chat template", "none in the tokenizer's folder", "",
                "data.chat_template = \"v3\"");
  }
  return tokenizer::ChatTemplateFromName(options.chat_template).Value();
}

DocumentEncoder MakeEncoder(const DataOptions& options, const tokenizer::Tokenizer& tokenizer, Split split) {
  Validate(options);
  const bool train = split == Split::kTrain;
  return DocumentEncoder(tokenizer,
                         {.seed = options.seed,
                          .add_bos = options.add_bos,
                          .fim_rate = train ? options.fim_rate : 0,
                          .split_punctuation_newline_rate = train ? options.split_punctuation_newline_rate : 0,
                          .chat_template = TemplateOf(options)});
}

std::string RealPath(const std::string& path) {
  std::error_code error;
  const std::filesystem::path real = std::filesystem::canonical(path, error);
  return error ? path : real.string();
}

// The files of the validation sources, to be left out of training wherever they are found.
std::set<std::string> ValidationFiles(const DataOptions& options) {
  std::set<std::string> files;
  Notices ignored;
  for (const SourceOptions& source : options.validation_sources) {
    for (const SourceFile& file : ListFiles(source, ignored)) files.insert(RealPath(file.path));
  }
  return files;
}

void RemoveFiles(const std::set<std::string>& removed, const std::string& source, Notices& notices,
                 std::vector<SourceFile>* files) {
  if (removed.empty()) return;
  std::vector<SourceFile> kept;
  for (SourceFile& file : *files) {
    if (removed.count(RealPath(file.path)) == 0) {
      kept.push_back(std::move(file));
    } else {
      notices.Add(NoticeKind::kExcluded, file.path, 0, "a validation file");
    }
  }
  *files = std::move(kept);
  if (files->empty()) {
    throw Error("data: no documents in " + source, "every file of it is a validation file", "a document or more");
  }
}

int64_t Number(const json& object, const char* key) {
  const auto it = object.find(key);
  if (it == object.end() || !it->is_number_integer() || (it->is_number_unsigned() && it->get<uint64_t>() > INT64_MAX)) {
    throw Error("data: the cursor is damaged", fmt::format("no number \"{}\"", key), "a cursor that fathom wrote",
                "resume from the checkpoint before this one");
  }
  return it->get<int64_t>();
}

}  // namespace

json ToJson(const StreamState& state) {
  json sources = json::array();
  for (const SourceState& s : state.sources) {
    sources.push_back({{"epoch", s.epoch},
                       {"shard", s.shard},
                       {"offset", s.offset},
                       {"index", s.index},
                       {"documents", s.documents},
                       {"tokens", s.tokens}});
  }
  return {{"sources", std::move(sources)}, {"documents", state.documents}};
}

StreamState StateFromJson(const json& object) {
  StreamState state;
  state.documents = object.is_object() ? Number(object, "documents") : -1;
  const auto sources = object.find("sources");
  if (state.documents < 0 || sources == object.end() || !sources->is_array()) {
    throw Error("data: the cursor is damaged", "no state of the sources", "a cursor that fathom wrote");
  }
  for (const json& s : *sources) {
    state.sources.push_back({.epoch = Number(s, "epoch"),
                             .shard = Number(s, "shard"),
                             .offset = Number(s, "offset"),
                             .index = Number(s, "index"),
                             .documents = Number(s, "documents"),
                             .tokens = Number(s, "tokens")});
  }
  return state;
}

bool IsValidation(std::string_view text, uint64_t seed, double fraction) {
  const uint64_t hash = HashText(text, HashPair(seed, kValidationSeed));
  return static_cast<double>(hash >> 11) * 0x1p-53 < fraction;
}

DocumentStream::DocumentStream(const DataOptions& options, const tokenizer::Tokenizer& tokenizer, Split split,
                               Notices& notices)
    : options_(options),
      split_(split),
      encoder_(MakeEncoder(options, tokenizer, split)),
      notices_(notices),
      tokenizer_hash_(HashTokenizer(tokenizer)) {
  const bool train = split == Split::kTrain;
  const bool own_files = !options.validation_sources.empty();
  if (!train && !own_files && options.validation_fraction <= 0) {
    throw Error("data: there is no validation split", "", "validation_fraction above 0, or validation_sources");
  }
  if (train) exclusion_ = ReadExclusion(options);
  const std::set<std::string> removed = train ? ValidationFiles(options) : std::set<std::string>();
  const std::vector<SourceOptions>& wanted = train || !own_files ? options.sources : options.validation_sources;
  const auto count = static_cast<int64_t>(wanted.size());
  for (size_t i = 0; i < wanted.size(); ++i) {
    Source::Settings settings;
    settings.seed = HashPair(HashPair(options.seed, kSourceSeed), i);
    settings.shuffle = train && options.shuffle;
    settings.one_pass = !train;
    settings.block_bytes = settings.shuffle
                               ? std::clamp(options.shuffle_buffer_bytes / count, kMinBlockBytes, kMaxBlockBytes)
                               : kMinBlockBytes;
    settings.max_document_bytes = options.max_document_bytes;
    if (!own_files && options.validation_fraction > 0) {
      settings.wanted = [train, seed = options.seed, fraction = options.validation_fraction](std::string_view text) {
        return IsValidation(text, seed, fraction) != train;
      };
    }
    if (!exclusion_.empty()) settings.exclusion = &exclusion_;
    std::vector<SourceFile> files = ListFiles(wanted[i], notices);
    RemoveFiles(removed, wanted[i].path, notices, &files);
    sources_.push_back(std::make_unique<Source>(wanted[i], std::move(files), std::move(settings), notices));
  }
  ended_.assign(sources_.size(), 0);
  last_epochs_.assign(sources_.size(), 0);
}

bool DocumentStream::Next(std::vector<int32_t>* ids) {
  for (;;) {
    size_t best = sources_.size();
    double least = 0;
    for (size_t i = 0; i < sources_.size(); ++i) {
      const double used = static_cast<double>(sources_[i]->state().tokens) / sources_[i]->options().weight;
      if (ended_[i] != 0 || (best < sources_.size() && used >= least)) continue;
      best = i;
      least = used;
    }
    if (best == sources_.size()) return false;
    const SourceState before = sources_[best]->state();
    if (!sources_[best]->Next(&text_)) {
      ended_[best] = 1;
      continue;
    }
    last_source_ = best;
    last_state_ = before;
    if (sources_[best]->options().format == "chat") {
      if (const std::string why = encoder_.EncodeChat(text_, ids); ids->empty()) {
        notices_.Add(NoticeKind::kNoText, sources_[best]->options().path, 0, why);
        if (sources_[best]->state().epoch > last_epochs_[best] + 1) {
          throw Error("data: no conversation of " + sources_[best]->options().path + " can be rendered", why);
        }
        continue;
      }
      last_epochs_[best] = before.epoch;
      ++documents_;
    } else {
      encoder_.Encode(text_, documents_++, ids);
    }
    sources_[best]->state().tokens += static_cast<int64_t>(ids->size());
    return true;
  }
}

StreamState DocumentStream::State() const {
  StreamState state;
  state.documents = documents_;
  for (const auto& source : sources_) state.sources.push_back(source->state());
  return state;
}

StreamState DocumentStream::StateBefore() const {
  StreamState state = State();
  state.documents -= 1;
  state.sources[last_source_] = last_state_;
  return state;
}

void DocumentStream::Restore(const StreamState& state) {
  if (state.sources.size() != sources_.size()) {
    throw Error("data: the cursor is of another number of sources", fmt::format("{}", state.sources.size()),
                fmt::format("{}", sources_.size()));
  }
  for (size_t i = 0; i < sources_.size(); ++i) {
    sources_[i]->Restore(state.sources[i]);
    last_epochs_[i] = state.sources[i].epoch;
  }
  documents_ = state.documents;
  std::fill(ended_.begin(), ended_.end(), 0);
}

json DocumentStream::Fingerprint() const {
  json sources = json::array();
  for (const auto& source : sources_) {
    uint64_t hash = 0;
    for (const SourceFile& file : source->files()) {
      hash = HashPair(HashText(file.name, hash), static_cast<uint64_t>(file.bytes));
    }
    const SourceOptions& o = source->options();
    sources.push_back({{"files", source->files().size()},
                       {"bytes", source->bytes()},
                       {"names and sizes", Hex(hash)},
                       {"weight", o.weight},
                       {"format", o.format},
                       {"text_key", o.text_key},
                       {"separator", Hex(HashText(o.separator))}});
  }
  json print = {{"split", split_ == Split::kTrain ? "training" : "validation"},
                {"sources", std::move(sources)},
                {"tokenizer", Hex(tokenizer_hash_)},
                {"exclude", Hex(exclusion_.hash())}};
  if (HasChat(options_)) print["chat_template"] = options_.chat_template;
  const auto add = [&](const char* key, const auto& value) {
    using Field = std::decay_t<decltype(value)>;
    const std::string name = key;
    if constexpr (std::is_arithmetic_v<Field>) {
      if (name != "isolate_documents") print[name] = value;  // changes nothing in the stream
    }
  };
  VisitFields(options_, add);
  return print;
}

int64_t DocumentStream::bytes() const {
  int64_t sum = 0;
  for (const auto& source : sources_) {
    for (const SourceFile& file : source->files()) {
      sum += file.bytes * (file.compression == Compression::kNone ? 1 : kCompressionGuess);
    }
  }
  return sum;
}

}  // namespace fathom::data
