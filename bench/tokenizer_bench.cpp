// Speed of encoding and decoding on one thread: tokenizer_bench TOKENIZER TEXT_FILE... [--seconds S] [--reference].
// One document a call: a file is cut at line ends into documents of about 4 KiB, as a training set has them. Prints one
// JSON line a file: bytes, documents, tokens, and the best encode and decode rate in MB/s. With --serve it answers one
// line on standard input with one pass over the files each, for measurements interleaved with another program
// (tools/peers/tokenizer_speed.py).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <iostream>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/model_files.h"

namespace {

using fathom::tokenizer::TokenId;
using Clock = std::chrono::steady_clock;

constexpr size_t kDocument = 4096;

std::vector<std::string> Documents(const std::string& text) {
  std::vector<std::string> out;
  size_t begin = 0;
  while (begin < text.size()) {
    size_t end = text.find('\n', std::min(begin + kDocument, text.size()));
    end = end == std::string::npos ? text.size() : end + 1;
    out.push_back(text.substr(begin, end - begin));
    begin = end;
  }
  return out;
}

struct Corpus {
  std::string name;
  size_t bytes = 0;
  std::vector<std::string> documents;
};

double Seconds(Clock::time_point from) { return std::chrono::duration<double>(Clock::now() - from).count(); }

// Processor time of this thread: a busy machine lengthens the wall's.
double ThreadSeconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

struct Pass {
  double encode_mb_s, decode_mb_s;
  size_t tokens;
};

Pass Run(const fathom::tokenizer::Tokenizer& tokenizer, const Corpus& corpus, bool reference) {
  std::vector<std::vector<TokenId>> ids;
  ids.reserve(corpus.documents.size());
  double start = ThreadSeconds();
  for (const std::string& d : corpus.documents) ids.push_back(tokenizer.Encode(d, {.reference_splitter = reference}));
  const double encode = ThreadSeconds() - start;
  size_t tokens = 0, bytes = 0;
  start = ThreadSeconds();
  for (const auto& i : ids) bytes += tokenizer.Decode(i).size();
  const double decode = ThreadSeconds() - start;
  for (const auto& i : ids) tokens += i.size();
  const double mb = static_cast<double>(corpus.bytes) / 1e6;
  return {mb / encode, bytes == corpus.bytes ? mb / decode : 0.0, tokens};
}

void Print(const Corpus& c, const Pass& p) {
  std::printf(
      "{\"file\": \"%s\", \"bytes\": %zu, \"documents\": %zu, \"tokens\": %zu, \"encode_mb_s\": %.2f, \"decode_mb_s\": "
      "%.2f}\n",
      c.name.c_str(), c.bytes, c.documents.size(), p.tokens, p.encode_mb_s, p.decode_mb_s);
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) try {
  std::vector<std::string> files;
  double seconds = 2;
  bool reference = false, serve = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view a = argv[i];
    if (a == "--seconds" && i + 1 < argc) {
      seconds = std::atof(argv[++i]);
    } else if (a == "--reference") {
      reference = true;
    } else if (a == "--serve") {
      serve = true;
    } else {
      files.emplace_back(a);
    }
  }
  if (files.size() < 2) {
    std::fputs("usage: tokenizer_bench TOKENIZER TEXT_FILE... [--seconds S] [--reference] [--serve]\n", stderr);
    return 2;
  }
  const Clock::time_point start = Clock::now();
  const fathom::tokenizer::ModelText model = fathom::tokenizer::LoadModelText(files[0]);
  std::fprintf(stderr, "loaded in %.0f ms\n", Seconds(start) * 1e3);
  std::vector<Corpus> corpora;
  for (size_t i = 1; i < files.size(); ++i) {
    const std::string text = fathom::tokenizer::ReadTextFile(files[i], size_t{1} << 30);
    corpora.push_back({files[i], text.size(), Documents(text)});
  }
  if (serve) {
    for (std::string line; std::getline(std::cin, line);) {
      for (const Corpus& c : corpora) {
        Run(model.tokenizer, c, reference);  // the other program had the processor's caches
        Print(c, Run(model.tokenizer, c, reference));
      }
    }
    return 0;
  }
  for (const Corpus& c : corpora) {
    Pass best{};
    for (const Clock::time_point from = Clock::now(); Seconds(from) < seconds;) {
      const Pass p = Run(model.tokenizer, c, reference);
      best = {std::max(best.encode_mb_s, p.encode_mb_s), std::max(best.decode_mb_s, p.decode_mb_s), p.tokens};
    }
    Print(c, best);
  }
  return 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
