// Training runs of the program on a tiny model: a scratch folder, the recipe, and what a run leaves behind.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

namespace fathom {

struct Ran {
  int code = -1;
  std::string out;  // standard output and error together
};

// A signal's death is 128 + its number.
inline Ran Shell(const std::string& command) {
  FILE* pipe = popen(("{ " + command + "; } 2>&1").c_str(), "r");
  Ran r;
  std::array<char, 4096> buffer;
  for (size_t n; (n = fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) r.out.append(buffer.data(), n);
  const int status = pclose(pipe);
  r.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return r;
}

inline void ExpectSays(const Ran& r, int code, std::initializer_list<std::string> parts) {
  EXPECT_EQ(r.code, code) << r.out;
  for (const std::string& p : parts) EXPECT_NE(r.out.find(p), std::string::npos) << "no '" << p << "' in:\n" << r.out;
}

inline std::string Slurp(const std::string& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

// 24 steps of 4 sequences of 48 tokens, a checkpoint every fifth, in a folder in memory where the machine has one: a
// run waits for the disk at every checkpoint.
class TrainCli : public testing::Test {
 protected:
  TrainCli() : folder_(Memory() / ("fathom_train_cli_" + std::to_string(getpid()))) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    std::ifstream in(FATHOM_SOURCE_DIR "/configs/models/tiny-1m.json");
    config_ = nlohmann::json::parse(in);
    config_.update({{"hidden_size", 48},
                    {"intermediate_size", 64},
                    {"kv_lora_rank", 16},
                    {"q_lora_rank", 24},
                    {"moe_intermediate_size", 24},
                    {"num_attention_heads", 2},
                    {"num_key_value_heads", 2},
                    {"num_hidden_layers", 2}});
    Put("config.json", config_.dump());
    recipe_ =
        Put("recipe.toml", std::string("[model]\nconfig = \"config.json\"\ntokenizer = \"") + FATHOM_SOURCE_DIR +
                               "/configs/runs/smoke-tokenizer\"\n[data]\nsources = [{path = \"" + FATHOM_SOURCE_DIR +
                               "/configs/runs/text/alice.txt\", separator = \"\\n\\n\\n\"}]\n"
                               "sequence_length = 48\nvalidation_fraction = 0.1\n[train]\nsteps = 24\n"
                               "micro_batch = 2\n[schedule]\nlr = [{kind = \"linear\", to = 3e-3, steps = 8},"
                               "{kind = \"cosine\", to = 3e-4, steps = 16}]\nbatch_size = 4\n"
                               "bias_update_speed = 0.01\n[checkpoint]\nevery = 5\n");
  }
  ~TrainCli() override { std::filesystem::remove_all(folder_); }

  std::string At(const std::string& name) const { return (folder_ / name).string(); }
  std::string Put(const std::string& name, const std::string& bytes) const {
    std::filesystem::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name, std::ios::binary) << bytes;
    return At(name);
  }
  std::string Command(const std::string& out, const std::string& flags = "") const {
    const char* const threads = flags.find("--threads") == std::string::npos ? " --threads 2" : "";
    return std::string(FATHOM_BINARY) + " train " + recipe_ + threads + " --out " + At(out) + " " + flags;
  }
  Ran Train(const std::string& out, const std::string& flags = "") const { return Shell(Command(out, flags)); }
  void ExpectTrains(const std::string& out, const std::string& flags = "") const {
    const Ran r = Train(out, flags);
    ASSERT_EQ(r.code, 0) << r.out;
  }

  // Starts a run whose output goes to OUT.log.
  pid_t Start(const std::string& out, const std::string& flags = "") const {
    const pid_t child = fork();
    if (child == 0) {
      const std::string command = "exec " + Command(out, flags) + " >>" + At(out + ".log") + " 2>&1";
      execl("/bin/sh", "sh", "-c", command.c_str(), static_cast<char*>(nullptr));
      _exit(99);
    }
    return child;
  }
  static int ExitOf(pid_t child) {
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

  // The rows of a run that may be writing still: whole lines only.
  std::vector<nlohmann::json> AllRows(const std::string& out) const {
    std::vector<nlohmann::json> rows;
    std::ifstream in(At(out + "/metrics.jsonl"));
    for (std::string line; std::getline(in, line) && !in.eof();) rows.push_back(nlohmann::json::parse(line));
    return rows;
  }
  // The rows of steps, less what no two runs have in common, and the loads that only a run's last row has.
  std::vector<nlohmann::json> Rows(const std::string& out) const {
    std::vector<nlohmann::json> rows;
    for (nlohmann::json& row : AllRows(out)) {
      if (!row.contains("step")) continue;
      for (const char* key : {"step_s", "tokens_per_s", "mfu", "memory_bytes"}) row.erase(key);
      if (row["step"].get<int64_t>() % 10 != 0) row.erase("load");
      rows.push_back(std::move(row));
    }
    return rows;
  }
  std::vector<int64_t> Resumes(const std::string& out) const {
    std::vector<int64_t> steps;
    for (const nlohmann::json& row : AllRows(out)) {
      if (row.contains("resumed_from")) steps.push_back(row["resumed_from"]);
    }
    return steps;
  }
  // Steps of the checkpoints, ascending.
  std::vector<int64_t> Checkpoints(const std::string& out) const {
    std::vector<int64_t> steps;
    for (const auto& entry : std::filesystem::directory_iterator(At(out + "/checkpoints")))
      steps.push_back(std::stoll(entry.path().filename().string().substr(5)));
    std::sort(steps.begin(), steps.end());
    return steps;
  }
  std::string CheckpointFile(const std::string& out, int64_t step, const std::string& name) const {
    char folder[32];
    std::snprintf(folder, sizeof folder, "step-%08ld", static_cast<long>(step));
    return At(out + "/checkpoints/" + folder + "/" + name);
  }
  // Every byte of the models and of the last state, and every row.
  void ExpectSameRun(const std::string& a, const std::string& b) const {
    for (const char* name : {"model.safetensors", "config.json", "tokenizer.json", "training.json"})
      EXPECT_TRUE(Slurp(At(a + "/final/" + name)) == Slurp(At(b + "/final/" + name))) << name;
    EXPECT_GT(Slurp(At(a + "/final/model.safetensors")).size(), 100'000u);
    const int64_t step = Checkpoints(a).back();
    EXPECT_EQ(step, Checkpoints(b).back());
    for (const char* name : {"masters.safetensors", "m.safetensors", "v.safetensors"})
      EXPECT_TRUE(Slurp(CheckpointFile(a, step, name)) == Slurp(CheckpointFile(b, step, name))) << name;
    const std::vector<nlohmann::json> x = Rows(a), y = Rows(b);
    ASSERT_EQ(x.size(), y.size());
    for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(x[i], y[i]);
  }
  // Makes the 32 bits of a tensor's first element a NaN.
  // The first value of a float32 tensor.
  static void Poison(const std::string& file, const std::string& tensor, float value = NAN) {
    std::fstream f(file, std::ios::in | std::ios::out | std::ios::binary);
    uint64_t header = 0;
    f.read(reinterpret_cast<char*>(&header), 8);
    std::string text(header, ' ');
    f.read(text.data(), static_cast<std::streamsize>(header));
    const uint64_t begin = nlohmann::json::parse(text).at(tensor)["data_offsets"][0];
    f.seekp(static_cast<std::streamoff>(8 + header + begin));
    f.write(reinterpret_cast<const char*>(&value), 4);
    ASSERT_TRUE(f.good());
  }
  static void FlipBit(const std::string& file, int64_t from_end) {
    std::fstream f(file, std::ios::in | std::ios::out | std::ios::binary);
    f.seekg(-from_end, std::ios::end);
    const auto at = f.tellg();
    const char byte = static_cast<char>(f.get() ^ 0x10);
    f.seekp(at);
    f.put(byte);
    ASSERT_TRUE(f.good());
  }

  std::filesystem::path folder_;
  nlohmann::json config_;
  std::string recipe_;

 private:
  static std::filesystem::path Memory() {
    return access("/dev/shm", W_OK) == 0 ? "/dev/shm" : std::filesystem::temp_directory_path();
  }
};

}  // namespace fathom
