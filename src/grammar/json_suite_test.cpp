// The official test suite of JSON Schema, drafts 7 and 2020-12, where it lies beside the project: of each schema that
// is compiled exactly the valid instances are accepted; the others are refused by a keyword's name. Prints how many.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>

#include "grammar/json_schema.h"
#include "grammar/json_test_text.h"
#include "grammar/test_machine.h"

namespace fathom::grammar {
namespace {

namespace fs = std::filesystem;

const fs::path kSuite = fs::path(FATHOM_SOURCE_DIR) / "../shared/suites/json-schema/tests";

struct Count {
  int compiled = 0, refused = 0, instances = 0;
};

// What a refusal is about: the first word in quotation marks.
std::string KeywordOf(const Error& error) {
  const std::string text = error.summary();
  const size_t begin = text.find('"');
  return begin == std::string::npos ? "" : text.substr(begin + 1, text.find('"', begin + 1) - begin - 1);
}

class Suite {
 public:
  void RunFolder(const std::string& name, JsonDraft draft) {
    std::vector<fs::path> files;
    for (const char* below : {"", "optional"}) {
      for (const auto& entry : fs::directory_iterator(kSuite / name / below)) {
        if (entry.path().extension() == ".json") files.push_back(entry.path());
      }
    }
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) {
      std::ifstream in(file);
      std::stringstream text;
      text << in.rdbuf();
      const JsonTree groups = ReadJsonTree(text.str()).Value();
      const bool optional = file.parent_path().filename() == "optional";
      for (const JsonTree& group : groups.items) {
        RunGroup(group, (optional ? "optional/" : "") + file.stem().string(), draft);
      }
    }
  }

  void RunGroup(const JsonTree& group, const std::string& file, JsonDraft draft) {
    Count& count = counts_[file];
    const std::string schema = CompactText(*group.Find("schema"));
    const auto grammar = CompileJsonSchema(schema, {.draft = draft});
    if (!grammar.ok()) {
      count.refused++;
      refusals_[KeywordOf(grammar.error())]++;
      EXPECT_NE(KeywordOf(grammar.error()), "") << schema << grammar.error().what();
      return;
    }
    count.compiled++;
    const auto machine = grammar.Value()->MakeMachine();
    for (const JsonTree& test : group.Find("tests")->items) {
      for (const bool backwards : {false, true}) {
        const std::string instance = CompactText(*test.Find("data"), backwards);
        EXPECT_EQ(Matches(*machine, instance), test.Find("valid")->truth)
            << file << ": " << group.Find("description")->text << "\n"
            << schema << "\n"
            << instance;
      }
      count.instances++;
    }
  }

  void Print() const {
    Count all;
    for (const auto& [file, count] : counts_) {
      std::cout << "  " << file << ": " << count.compiled << " compiled, " << count.refused << " refused, "
                << count.instances << " instances\n";
      all.compiled += count.compiled;
      all.refused += count.refused;
      all.instances += count.instances;
    }
    std::cout << "  all: " << all.compiled << " compiled, " << all.refused << " refused, " << all.instances
              << " instances; refused for";
    for (const auto& [keyword, times] : refusals_) std::cout << " " << keyword << ": " << times << ",";
    std::cout << "\n";
  }

  const Count& of(const std::string& file) const { return counts_.at(file); }

 private:
  std::map<std::string, Count> counts_;
  std::map<std::string, int> refusals_;
};

TEST(JsonSuite, AcceptsExactlyTheValidInstances) {
  if (!fs::exists(kSuite)) GTEST_SKIP() << "the JSON-Schema-Test-Suite is not at " << kSuite;
  for (const auto& [folder, draft] :
       {std::pair{"draft7", JsonDraft::k7}, std::pair{"draft2020-12", JsonDraft::k2020}}) {
    Suite suite;
    suite.RunFolder(folder, draft);
    std::cout << folder << "\n";
    suite.Print();
    for (const char* file :
         {"type",     "properties", "required",         "additionalProperties", "items",      "enum",      "const",
          "minimum",  "maximum",    "exclusiveMinimum", "exclusiveMaximum",     "multipleOf", "minLength", "maxLength",
          "minItems", "maxItems",   "minProperties",    "maxProperties",        "pattern",    "anyOf",     "allOf"}) {
      EXPECT_EQ(suite.of(file).refused, 0) << folder << " " << file;
    }
    EXPECT_GT(suite.of("ref").compiled, 2 * suite.of("ref").refused) << folder;
    if (draft == JsonDraft::k2020) {
      EXPECT_EQ(suite.of("prefixItems").refused, 0);
    }
  }
}

}  // namespace
}  // namespace fathom::grammar
