// What the tokenizer's tests share: the files of ../shared, lines of JSON, the smoke run's tokenizer.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tokenizer/model_files.h"

namespace fathom::tokenizer {

inline std::string SharedTokenizerFile(const std::string& name) {
  return std::string(FATHOM_SOURCE_DIR "/../shared/tokenizer/") + name;
}

inline std::vector<nlohmann::ordered_json> ReadJsonLines(const std::string& path) {
  std::istringstream in(ReadTextFile(path, size_t{1} << 30));
  std::vector<nlohmann::ordered_json> rows;
  for (std::string line; std::getline(in, line);) rows.push_back(nlohmann::ordered_json::parse(line));
  return rows;
}

inline const ModelText& StoryModel() {
  static const ModelText text = LoadModelText(FATHOM_SOURCE_DIR "/configs/runs/smoke-tokenizer");
  return text;
}
inline const Tokenizer& Story() { return StoryModel().tokenizer; }

}  // namespace fathom::tokenizer

// For tests of the published tokenizer, which is too large to be shipped.
#define FATHOM_NEEDS_SHARED(name)                                                               \
  if (!std::filesystem::exists(::fathom::tokenizer::SharedTokenizerFile(name))) {               \
    GTEST_SKIP() << "needs ../shared/tokenizer/" << (name) << ", which is not on this machine"; \
  }
