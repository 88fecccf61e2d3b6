// fathom tokenizer train, as its user meets it.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>
#include <zlib.h>

#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

namespace fathom {
namespace {

namespace fs = std::filesystem;

struct Ran {
  int code = -1;
  std::string out;  // standard output and error together
};

Ran Shell(const std::string& command) {
  FILE* pipe = popen(("{ " + command + "; } 2>&1").c_str(), "r");
  Ran r;
  std::array<char, 4096> buffer;
  for (size_t n; (n = fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) r.out.append(buffer.data(), n);
  const int status = pclose(pipe);
  r.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return r;
}

std::string Slurp(const std::string& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

class TokenizerTrain : public testing::Test {
 protected:
  TokenizerTrain() : path_(fs::temp_directory_path() / ("fathom_tokenizer_train_" + std::to_string(getpid()))) {
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~TokenizerTrain() override { fs::remove_all(path_); }

  std::string At(const std::string& name) const { return (path_ / name).string(); }
  std::string Put(const std::string& name, const std::string& bytes) const {
    fs::create_directories((path_ / name).parent_path());
    std::ofstream(path_ / name, std::ios::binary) << bytes;
    return At(name);
  }
  std::string PutGzipped(const std::string& name, const std::string& bytes) const {
    const gzFile f = gzopen(At(name).c_str(), "wb");
    gzwrite(f, bytes.data(), static_cast<unsigned>(bytes.size()));
    gzclose(f);
    return At(name);
  }
  Ran Train(const std::string& args) const { return Shell(std::string(FATHOM_BINARY) + " tokenizer train " + args); }
  void Refuses(const std::string& args, int code, std::initializer_list<const char*> parts) const {
    const Ran r = Train(args + " --out " + At("refused.json"));
    EXPECT_EQ(r.code, code) << r.out;
    for (const char* p : parts) EXPECT_NE(r.out.find(p), std::string::npos) << "no '" << p << "' in:\n" << r.out;
    for (const auto& entry : fs::directory_iterator(path_)) {
      EXPECT_EQ(entry.path().filename().string().find("refused"), std::string::npos) << entry.path() << " is left";
    }
  }

  fs::path path_;
  const std::string story_ =
      "The king had a hen, and the hen had a king.\nThe other king had the other hen.\n\n国王。\n";
};

TEST_F(TokenizerTrain, AFolderBecomesATokenizerThatIsUsedAtOnce) {
  Put("corpus/a.txt", story_);
  Put("corpus/deep/b.jsonl", "{\"text\": \"the hen\"}\n\n{\"text\": \"the king and the hen\", \"id\": 7}\n");
  PutGzipped("corpus/c.txt.gz", story_);
  PutGzipped("corpus/d.jsonl.gz", "{\"text\": \"the other \\u738b hen\"}");
  Put("corpus/ignored.png", std::string("\0\1\2", 3));
  const Ran r = Train(At("corpus") + " --vocab-size 300 --out " + At("out/tok") + " --model-max-length 4096");
  ASSERT_EQ(r.code, 0) << r.out;
  EXPECT_NE(r.out.find("300 ids, 26 merges"), std::string::npos) << r.out;
  EXPECT_NE(r.out.find("5 documents"), std::string::npos) << r.out;
  const auto config = nlohmann::json::parse(Slurp(At("out/tok/tokenizer_config.json")));
  EXPECT_EQ(config["model_max_length"], 4096);
  EXPECT_EQ(config["eos_token"]["content"], "<｜end▁of▁sentence｜>");
  const std::string program = std::string(FATHOM_BINARY) + " tokenizer ";
  const Ran ids = Shell(program + "encode " + At("out/tok") + " --bos --text 'the hen<｜end▁of▁sentence｜>'");
  ASSERT_EQ(ids.code, 0) << ids.out;
  EXPECT_EQ(ids.out.substr(0, 2), "0 ");
  EXPECT_EQ(ids.out.substr(ids.out.size() - 3), " 1\n");
  EXPECT_EQ(Shell("echo '" + ids.out + "' | " + program + "decode " + At("out/tok") + " --skip-special").out,
            "the hen");
}

TEST_F(TokenizerTrain, ThreadsAndFormsOfTheCorpusDoNotMatter) {
  std::string text, rows;
  for (int i = 0; i < 300; ++i) {
    const std::string line = "line " + std::to_string(i * i) + " of the tale: " + story_;
    text = line;
    rows += nlohmann::json{{"text", text}}.dump() + "\n";
    Put("txt/" + std::to_string(i) + ".txt", text);
  }
  PutGzipped("rows.jsonl.gz", rows);
  std::string first;
  for (const std::string& corpus : {At("txt"), At("rows.jsonl.gz")}) {
    for (const int threads : {1, 2, 5}) {
      const std::string out = At("t.json");
      const Ran r = Train(corpus + " --vocab-size 330 --force --out " + out + " --threads " + std::to_string(threads));
      ASSERT_EQ(r.code, 0) << r.out;
      if (first.empty()) first = Slurp(out);
      EXPECT_EQ(Slurp(out), first) << corpus << ", " << threads << " threads";
    }
  }
  EXPECT_GT(first.size(), 5000u);
}

TEST_F(TokenizerTrain, SaysWhatIsWrong) {
  const std::string text = Put("a.txt", story_);
  Refuses(text + " --vocab-size 273", 1, {"vocabulary", "273", "from 274", "18 special tokens"});
  Refuses(text + " --vocab-size many", 2, {"--vocab-size"});
  Refuses(text + " --vocab-size 300 --min-frequency 0", 2, {"--min-frequency"});
  Refuses(At("absent.txt") + " --vocab-size 300", 1, {"absent.txt", "o such file"});
  Refuses(Put("a.pdf", "x") + " --vocab-size 300", 1, {"a.pdf", "format", ".jsonl"});
  Refuses(Put("a.parquet", "x") + " --vocab-size 300", 1, {"a.parquet", "not read"});
  fs::create_directories(At("void"));
  Refuses(At("void") + " --vocab-size 300", 1, {"no documents", "void"});
  Refuses(Put("empty.txt", "") + " --vocab-size 300", 1, {"empty.txt is empty", "the corpus is empty", "1 file"});
  Refuses(Put("none.jsonl", "\n\n") + " --vocab-size 300", 1, {"the corpus is empty"});
  Refuses(Put("bin.txt", std::string("ab\0cd", 5)) + " --vocab-size 300", 1, {"bin.txt is binary", "is empty"});
  Refuses(Put("rows.jsonl", "{\"txt\": \"b\"}\n") + " --vocab-size 300", 1, {"rows.jsonl", "line without text"});
}

TEST_F(TokenizerTrain, WhatIsWrongIsLeftOutAndNamed) {
  Put("c/a.txt", story_);
  Put("c/b.jsonl", "{\"text\": \"the hen\"}\n{\"text\": \"\n[1]\n{\"txt\": \"b\"}\n");
  Put("c/c.txt", std::string("ab\0cd", 5));
  std::string cut = Slurp(PutGzipped("whole.txt.gz", story_ + story_ + story_));
  cut.resize(cut.size() - 12);
  Put("c/d.txt.gz", cut);
  Put("c/e.txt", "");
  const Ran r = Train(At("c") + " --vocab-size 300 --out " + At("t.json"));
  EXPECT_EQ(r.code, 0) << r.out;
  for (const char* part : {"b.jsonl holds a line that is no JSON object", "b.jsonl holds a line without text",
                           "c.txt is binary", "d.txt.gz is damaged", "e.txt is empty"}) {
    EXPECT_NE(r.out.find(part), std::string::npos) << "no '" << part << "' in:\n" << r.out;
  }
  Put("c/f.jsonl", "{\"body\": \"zzzzz zzzzz zzzzz\"}\n");
  EXPECT_EQ(Train(At("c/f.jsonl") + " --text-key body --vocab-size 280 --out " + At("u.json")).code, 0);
}

TEST_F(TokenizerTrain, WhatIsThereIsReplacedOnlyIfAskedFor) {
  const std::string text = Put("a.txt", story_), out = Put("tokenizer.json", "precious");
  for (const std::string& place : {out, path_.string()}) {
    const Ran r = Train(text + " --vocab-size 280 --out " + place);
    EXPECT_EQ(r.code, 1) << r.out;
    EXPECT_NE(r.out.find("--force"), std::string::npos) << r.out;
    EXPECT_EQ(Slurp(out), "precious");
  }
  EXPECT_EQ(Train(text + " --vocab-size 280 --force --out " + out).code, 0);
  EXPECT_EQ(Slurp(out).substr(0, 1), "{");
}

TEST_F(TokenizerTrain, AFullDiskIsSaid) {
  const std::string text = Put("a.txt", story_);
  // A limit on the size of files stands for the full disk: the kernel refuses to write past it.
  const Ran r = Shell("trap '' XFSZ; ulimit -f 1; " + std::string(FATHOM_BINARY) + " tokenizer train " + text +
                      " --vocab-size 300 --out " + At("t.json"));
  EXPECT_EQ(r.code, 1) << r.out;
  EXPECT_NE(r.out.find("t.json"), std::string::npos) << r.out;
  EXPECT_FALSE(fs::exists(At("t.json")));
  EXPECT_EQ(std::distance(fs::directory_iterator(path_), fs::directory_iterator()), 1);
}

TEST_F(TokenizerTrain, APoorCorpusGivesASmallerVocabularyAndSaysSo) {
  const Ran r =
      Train(Put("a.txt", "a lone king, the first of his kind\xff") + " --vocab-size 5000 --out " + At("t.json"));
  EXPECT_EQ(r.code, 0) << r.out;
  EXPECT_NE(r.out.find("not 5000"), std::string::npos) << r.out;
  EXPECT_NE(r.out.find("invalid UTF-8"), std::string::npos) << r.out;
}

}  // namespace
}  // namespace fathom
