#include "train/corpus_size.h"

#include "data/byte_reader.h"
#include "data/records.h"
#include "data/source.h"

namespace fathom::train {
namespace {

constexpr int64_t kSampleBytes = 128 << 10;  // of a source, some from each of its first files
constexpr size_t kSampleFiles = 4;
constexpr int64_t kWholeBytes = 32 << 20;  // of a source's compressed files are read through for their text's size
constexpr double kCompression = 3;         // bytes of text in a byte of the others, about

// Of the text in a file. left: compressed bytes that may still be read.
double BytesOf(const data::SourceFile& file, int64_t* left) {
  if (file.compression == data::Compression::kNone) return static_cast<double>(file.bytes);
  if (file.bytes <= *left) {
    *left -= file.bytes;
    const auto reader = data::ByteReader::Open(file.path, file.compression);
    const Result<int64_t> bytes = reader ? reader.Value()->Skip(INT64_MAX) : Result<int64_t>(0);
    if (bytes && bytes.Value() > 0) return static_cast<double>(bytes.Value());
  }
  return static_cast<double>(file.bytes) * kCompression;
}

double TokensOf(const data::SourceOptions& source, const tokenizer::Tokenizer& tokenizer) {
  data::Notices notices;
  double bytes = 0, sampled_bytes = 0, sampled_tokens = 0;
  int64_t left = kWholeBytes;
  size_t sampled = 0;
  for (const data::SourceFile& file : data::ListFiles(source, notices)) {
    bytes += BytesOf(file, &left);
    if (sampled++ >= kSampleFiles) continue;
    data::RecordOptions options;
    options.format = file.format;
    options.text_key = source.text_key;
    options.separator = source.separator;
    if (!data::HasLines(file.format)) options.max_document_bytes = kSampleBytes;  // longer lines would be left out
    data::RecordReader reader(file.path, file.compression, options, notices);
    for (std::string text; reader.position() < kSampleBytes && reader.Next(&text);)
      sampled_tokens += static_cast<double>(tokenizer.Encode(text).size());
    sampled_bytes += static_cast<double>(reader.position());
  }
  return sampled_bytes > 0 ? bytes * sampled_tokens / sampled_bytes : 0;
}

}  // namespace

CorpusEstimate EstimateCorpus(const data::DataOptions& options, const tokenizer::Tokenizer& tokenizer, int64_t tokens) {
  double weights = 0;
  for (const data::SourceOptions& s : options.sources) weights += s.weight;
  CorpusEstimate most;
  for (const data::SourceOptions& s : options.sources) {
    const double has = TokensOf(s, tokenizer) * (1 - options.validation_fraction);
    if (has <= 0) continue;
    const double epochs = static_cast<double>(tokens) * s.weight / weights / has;
    if (epochs > most.epochs) most = {s.path, has, epochs};
  }
  return most;
}

}  // namespace fathom::train
