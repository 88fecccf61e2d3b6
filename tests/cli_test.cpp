// The program as its user meets it: outputs, exit codes, and what it says about bad input.
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
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

namespace fathom {
namespace {

constexpr const char* kModel = FATHOM_SOURCE_DIR "/models/fathom-16m";

struct Ran {
  int code = -1;
  std::string out;  // standard output and error together
};

// Runs `fathom ARGS` by the shell with `input` (no single quotes) as standard input; a signal's death is 128 + its
// number.
Ran Fathom(const std::string& args, const std::string& input = "") {
  const std::string command = "printf '" + input + "' | { " + FATHOM_BINARY + " " + args + "; } 2>&1";
  FILE* pipe = popen(command.c_str(), "r");
  Ran r;
  std::array<char, 4096> buffer;
  for (size_t n; (n = fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) r.out.append(buffer.data(), n);
  const int status = pclose(pipe);
  r.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  return r;
}

class Scratch {
 public:
  Scratch() : path_(std::filesystem::temp_directory_path() / ("fathom_cli_" + std::to_string(getpid()))) {
    std::filesystem::create_directories(path_);
  }
  ~Scratch() { std::filesystem::remove_all(path_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

void ExpectSays(const Ran& r, int code, std::initializer_list<const char*> parts) {
  EXPECT_EQ(r.code, code) << r.out;
  for (const char* p : parts) EXPECT_NE(r.out.find(p), std::string::npos) << "no '" << p << "' in:\n" << r.out;
}

TEST(Cli, EvalBitsPerByte) {
  const Scratch dir;
  std::ifstream held(FATHOM_SOURCE_DIR "/configs/runs/text/heldout.jsonl");
  std::ofstream some(dir / "some.jsonl");
  std::string line;
  for (int i = 0; i < 3 && std::getline(held, line); ++i) some << line << "\n";
  some.close();
  const Ran r = Fathom(std::string("eval bpb ") + kModel + " " + (dir / "some.jsonl") + " --json 2>/dev/null");
  ASSERT_EQ(r.code, 0) << r.out;
  const nlohmann::json all = nlohmann::json::parse(r.out)["all"];
  EXPECT_EQ(all["documents"], 3);
  // Of the whole file the model's README says 1.419 (children's books, as these are).
  EXPECT_NEAR(all["bits_per_byte"].get<double>(), 1.419, 0.1);
  EXPECT_NEAR(all["bits_per_byte"].get<double>() * all["bytes"].get<double>() * std::log(2.0),
              all["nats_per_token"].get<double>() * all["tokens"].get<double>(), 1e-6 * all["bytes"].get<double>());
  EXPECT_NEAR(all["mtp_agreement"].get<double>(), 0.641, 0.1);
  std::ofstream(dir / "bad.jsonl") << "{\"x\": 1}\n";
  ExpectSays(Fathom(std::string("eval bpb ") + kModel + " " + (dir / "bad.jsonl")), 1,
             {"line 1", "text", "--text-key"});
  ExpectSays(Fathom(std::string("eval bpb ") + kModel + " /no/such/file"), 1, {"/no/such/file"});
}

TEST(Cli, GenerateIds) {
  const Ran r =
      Fathom(std::string("generate ") + kModel + " --ids 0,5,17 --max-tokens 8 --temperature 0 --json 2>/dev/null");
  ASSERT_EQ(r.code, 0) << r.out;
  const nlohmann::json j = nlohmann::json::parse(r.out);
  EXPECT_EQ(j["ids"].size(), 8u);
  EXPECT_EQ(j["finish_reason"], "length");
  EXPECT_EQ(j["usage"]["prompt_tokens"], 3);
  EXPECT_EQ(j["usage"]["completion_tokens"], 8);
  EXPECT_TRUE(j["text"].is_string());
  EXPECT_GT(j["timing"]["time_to_first_token_s"].get<double>(), 0);
  for (const char* threads : {"1", "2", "3"}) {
    const Ran again =
        Fathom(std::string("generate ") + kModel + " --ids 0,5,17 --max-tokens 8 --temperature 0 --json --threads " +
               threads + " 2>/dev/null");
    EXPECT_EQ(nlohmann::json::parse(again.out)["ids"], j["ids"]) << threads << " threads";
  }
}

TEST(Cli, GenerateTextAndStop) {
  const std::string base =
      std::string("generate ") + kModel + " -p 'Once upon a time there was a little girl who' --temperature 0 -n 40 ";
  const Ran all = Fathom(base + "2>/dev/null");
  ExpectSays(all, 0, {"lived in a small house"});
  const Ran stopped = Fathom(base + "--stop 'house' --json 2>/dev/null");
  const nlohmann::json j = nlohmann::json::parse(stopped.out);
  EXPECT_EQ(j["finish_reason"], "stop");
  EXPECT_EQ(j["text"], " lived in a small ");
  const Ran piped = Fathom("generate " + std::string(kModel) + " --temperature 0 -n 40 2>/dev/null");
  EXPECT_EQ(piped.code, 0) << piped.out;  // an empty prompt is bos alone
}

TEST(Cli, GenerateBatch) {
  const Scratch dir;
  std::ofstream(dir / "p.txt") << "The old king\nIn the morning\n\nThe fox\n";
  const Ran r = Fathom(std::string("generate ") + kModel + " --input-file " + (dir / "p.txt") +
                       " -n 6 --temperature 0 --json 2>/dev/null");
  ASSERT_EQ(r.code, 0) << r.out;
  EXPECT_EQ(std::count(r.out.begin(), r.out.end(), '\n'), 4);
}

// Whatever a model of children's books would rather say: the answer is of what was asked for.
TEST(Cli, GenerateHeldToAStructure) {
  const Scratch dir;
  const auto ask = [](const std::string& flags) {
    return Fathom(std::string("generate ") + kModel + " -p 'The fox said' -n 60 --seed 3 " + flags + " 2>/dev/null");
  };
  std::ofstream(dir / "fox.json") << R"({"type": "object", "properties": {"tails": {"type": "integer", "minimum": 1,
    "maximum": 9}, "red": {"type": "boolean"}}, "required": ["tails", "red"], "additionalProperties": false})";
  const std::string schema = " --json-schema " + (dir / "fox.json");
  const Ran fox = ask(schema);
  ASSERT_EQ(fox.code, 0) << fox.out;
  const nlohmann::json j = nlohmann::json::parse(fox.out);
  EXPECT_EQ(j.size(), 2u);
  EXPECT_TRUE(j["red"].is_boolean());
  EXPECT_GE(j["tails"].get<int>(), 1);
  EXPECT_LE(j["tails"].get<int>(), 9);
  EXPECT_EQ(ask(schema).out, fox.out);
  const std::string list = ask("--json-schema '{\"type\": \"array\", \"items\": {\"const\": 1}, \"minItems\": 2, "
                               "\"maxItems\": 2}'")
                               .out;
  EXPECT_EQ(nlohmann::json::parse(list), nlohmann::json({1, 1}));
  EXPECT_EQ(ask("--json-object --temperature 0 --stop ' '").out.front(), '{');
  EXPECT_EQ(ask("--regex '[0-9]{4}-[0-9]{2}'").out.size(), 8u);
  EXPECT_EQ(ask("--regex ''").out, "\n");  // the empty text alone
  EXPECT_EQ(ask("--grammar 'root ::= \"[\" [ab]{3} \"]\"'").out.size(), 6u);
  std::ofstream(dir / "g.gbnf") << "root ::= word (\" \" word){2}\nword ::= \"tick\" | \"tock\"\n";
  EXPECT_EQ(ask("--grammar-file " + (dir / "g.gbnf")).out.size(), 15u);
  const std::string choice = ask("--choice yes --choice '[no, never]'").out;
  EXPECT_TRUE(choice == "yes\n" || choice == "[no, never]\n") << choice;
  // A batch, and ids in place of text.
  std::ofstream(dir / "p.txt") << "The old king\nIn the morning\nThe fox\n";
  const Ran batch = Fathom(std::string("generate ") + kModel + " --json --ids 0,5,17 --ignore-eos --choice red");
  EXPECT_NE(batch.out.find("\"text\":\"red\",\"finish_reason\":\"stop\""), std::string::npos) << batch.out;
  ExpectSays(Fathom(std::string("generate ") + kModel + " --input-file " + (dir / "p.txt") + " --output " +
                    (dir / "a.jsonl") + schema),
             0, {});
  std::ifstream answers(dir / "a.jsonl");
  int lines = 0;
  for (std::string line; std::getline(answers, line); ++lines) {
    const nlohmann::json answer = nlohmann::json::parse(line);
    EXPECT_EQ(nlohmann::json::parse(answer["text"].get<std::string>()).size(), 2u) << line;
    EXPECT_EQ(answer["finish_reason"], "stop");
  }
  EXPECT_EQ(lines, 3);
}

TEST(Cli, StructuresThatCannotBeKeptAreRefused) {
  const std::string base = std::string("generate ") + kModel + " -p 'The fox' -n 4 ";
  ExpectSays(Fathom(base + "--regex a --choice b"), 2, {"--regex", "--choice", "excludes"});
  ExpectSays(Fathom(base + "--json-schema true --json-object"), 2, {"--json-schema", "--json-object"});
  ExpectSays(Fathom("generate --ckpt-path x --config y --ids 1 --choice b"), 2, {"--ckpt-path", "--choice"});
  ExpectSays(Fathom(base + "--json-schema '{\"uniqueItems\": true}'"), 1, {"--json-schema", "uniqueItems"});
  ExpectSays(Fathom(base + "--json-schema /no/such.json"), 1, {"/no/such.json"});
  ExpectSays(Fathom(base + "--regex '(?=a)b'"), 1, {"--regex", "look"});
  ExpectSays(Fathom(base + "--grammar 'root ::= lost'"), 1, {"--grammar", "lost"});
  ExpectSays(Fathom(base + "--grammar-file /no/such.gbnf"), 1, {"/no/such.gbnf"});
  ExpectSays(Fathom(base + "--choice 'a\xff'"), 1, {"--choice", "UTF-8"});
}

TEST(Cli, RenderByATemplateFile) {
  const Scratch dir;
  std::ofstream(dir / "t.jinja") << "{% for m in messages %}<{{ m.role }}>{{ m.content|upper }}{% endfor %}";
  const std::string base = std::string("tokenizer render ") + kModel + " --chat-template ";
  const Ran r = Fathom(base + (dir / "t.jinja"), R"([{"role": "user", "content": "Hi"}])");
  EXPECT_EQ(r.code, 0);
  EXPECT_EQ(r.out, "<user>HI");
  std::ofstream(dir / "bad.jinja") << "a\n{% for %}";
  ExpectSays(Fathom(base + (dir / "bad.jinja"), "[]"), 1, {"line 2"});
}

TEST(Cli, SeedRepeats) {
  const std::string base =
      std::string("generate ") + kModel + " -p 'The fox' -n 20 --temperature 1 2>/dev/null --seed ";
  EXPECT_EQ(Fathom(base + "7").out, Fathom(base + "7").out);
  EXPECT_NE(Fathom(base + "7").out, Fathom(base + "8").out);
}

TEST(Cli, ChatFromAPipe) {
  const Ran r = Fathom("chat " + std::string(kModel) + " --max-tokens 5 --temperature 0 2>/dev/null",
                       "Hello\\n/clear\\nHello\\n/exit\\nnever said\\n");
  EXPECT_EQ(r.code, 0) << r.out;
  const size_t half = r.out.size() / 2;
  EXPECT_GT(half, 0u);
  EXPECT_EQ(r.out.substr(0, half), r.out.substr(half));  // after /clear the same answer again
}

TEST(Cli, ChatSavesTheConversation) {
  const Scratch dir;
  const std::string file = dir / "c.json";
  const Ran r =
      Fathom("chat " + std::string(kModel) + " --max-tokens 3 --system 'Be brief.'", "Hello\\n/save " + file + "\\n");
  EXPECT_EQ(r.code, 0) << r.out;
  std::ifstream in(file);
  const nlohmann::json j = nlohmann::json::parse(in);
  ASSERT_EQ(j.size(), 3u);
  EXPECT_EQ(j[0]["role"], "system");
  EXPECT_EQ(j[2]["role"], "assistant");
}

TEST(Cli, ChatWithoutATemplateIsRefused) {
  const Scratch dir;
  for (const char* f : {"config.json", "model.safetensors", "tokenizer.json"})
    std::filesystem::create_symlink(std::string(kModel) + "/" + f, dir / f);
  ExpectSays(Fathom("chat " + (dir / "") + ""), 1, {"completes text only", "--template"});
  EXPECT_EQ(Fathom("chat " + (dir / "") + " --template v3 -n 2").code, 0);
}

TEST(Cli, InspectThePublishedConfiguration) {
  const std::string config = FATHOM_SOURCE_DIR "/configs/models/deepseek-v3.json";
  const Ran r = Fathom("inspect " + config + " --json");
  ASSERT_EQ(r.code, 0) << r.out;
  const nlohmann::json j = nlohmann::json::parse(r.out);
  EXPECT_EQ(j["parameters"]["main"], 671026419200);
  EXPECT_EQ(j["parameters"]["with_mtp_copies"], 684489845504);
  EXPECT_EQ(j["tensors"]["total"], 46183);
  EXPECT_EQ(j["tensors"]["fp8"], 45808);
  EXPECT_EQ(j["cache_bytes_per_token"], 70272);
}

TEST(Cli, InitThenTraceThenCompare) {
  const Scratch dir;
  const std::string model = dir / "m", trace = dir / "t.safetensors";
  for (const char* dtype : {"f32", "bf16", "fp8"}) {
    std::filesystem::remove_all(model);
    ExpectSays(Fathom(std::string("init ") + FATHOM_SOURCE_DIR "/tests/golden/v3-tiny-fp8/config.json " + model +
                      " --seed 3 --dtype " + dtype),
               0, {});
    EXPECT_EQ(Fathom("trace " + model + " --ids 1,2,3,4,5 --compute f32 --out " + trace).code, 0);
    ExpectSays(Fathom("trace " + model + " --ids 1,2,3,4,5 --compute f32 --absorbed --chunk 2 --compare " + trace), 0,
               {"no layer departs", "mtp_logits.1"});
    EXPECT_EQ(Fathom("inspect " + model + " --scan").code, 0);
  }
  // Another prompt departs in the first layer.
  ExpectSays(Fathom("trace " + model + " --ids 1,2,3,4,6 --compute f32 --compare " + trace), 1,
             {"departs", "the first to depart: hidden.0"});
}

// Completions of DeepSeek's own generate.py (golden/deepseek-demo/README.md), by the demo's flags.
TEST(Cli, DemoCompletions) {
  const std::string folder = FATHOM_SOURCE_DIR "/../shared/golden/deepseek-demo/";
  std::ifstream in(folder + "generate.json");
  if (!in) GTEST_SKIP() << "golden/deepseek-demo is not here";
  const Scratch dir;
  std::ifstream config_file(folder + "config_v3-tiny.json");
  const nlohmann::json golden = nlohmann::json::parse(in), config = nlohmann::json::parse(config_file);
  for (const auto& c : golden["cases"]) {
    nlohmann::json own = config;
    own.update(c["config_overrides"]);
    std::ofstream(dir / "config.json") << own;
    for (size_t i = 0; i < c["prompt_tokens"].size(); ++i) {
      std::string ids = c["prompt_tokens"][i].dump();
      ids = ids.substr(1, ids.size() - 2);
      const Ran r =
          Fathom("generate --ckpt-path " + folder + "v3-tiny-mp1 --config " + (dir / "config.json") + " --ids " + ids +
                 " --temperature 0 --json --max-new-tokens " + c["max_new_tokens"].dump() + " 2>/dev/null");
      ASSERT_EQ(r.code, 0) << r.out;
      std::vector<int> ours = nlohmann::json::parse(r.out)["ids"];
      const auto eos = std::find(ours.begin(), ours.end(), c["eos_id"].get<int>());  // -1: none
      ours.erase(eos, ours.end());
      EXPECT_EQ(ours, c["completion_tokens"][i].get<std::vector<int>>()) << c["case"] << " " << i;
    }
  }
}

TEST(Cli, UsageIs2) {
  EXPECT_EQ(Fathom("").code, 2);
  EXPECT_EQ(Fathom("nonsense").code, 2);
  EXPECT_EQ(Fathom("generate").code, 2);
  EXPECT_EQ(Fathom(std::string("generate ") + kModel + " --no-such-flag").code, 2);
  EXPECT_EQ(Fathom(std::string("generate ") + kModel + " --threads 0 -p x").code, 2);
  ExpectSays(Fathom(std::string("bench ") + kModel + " --prefill 0"), 2,
             {"--prefill: got 0, expected a number above 0"});
  ExpectSays(Fathom(std::string("bench ") + kModel + " --context -3"), 2,
             {"got -3, expected a number that is not below 0"});
  EXPECT_EQ(Fathom("--help").code, 0);
  for (const char* c : {"generate", "chat", "inspect", "init", "trace", "tokenizer", "bench"})
    ExpectSays(Fathom(std::string(c) + " --help"), 0, {"Usage"});
}

TEST(Cli, BadInputIsExplained) {
  const std::string generate = std::string("generate ") + kModel + " ";
  ExpectSays(Fathom("generate /no/such/folder -p x"), 1, {"/no/such/folder"});
  ExpectSays(Fathom(generate + "--ids 5,x,7"), 1, {"--ids", "'x'"});
  ExpectSays(Fathom(generate + "--ids 5,6144"), 1, {"6144", "0 to 6143"});
  ExpectSays(Fathom(generate + "--ids 5 --temperature -1"), 1, {"temperature", "-1"});
  ExpectSays(Fathom(generate + "--ids 5 --top-p 0"), 1, {"top_p"});
  ExpectSays(Fathom(generate + "--ids 5 --compute f64"), 1, {"f64", "bf16"});
  ExpectSays(Fathom(generate + "--ids 5 --force-isa sparc"), 1, {"sparc", "avx2"});
  ExpectSays(Fathom(generate + "-p '' --no-bos"), 1, {"empty"});
  ExpectSays(Fathom(generate + "-p 'a b c d e f g h' --ctx-size 3"), 1, {"longer than the context", "--ctx-size"});
  ExpectSays(Fathom(generate + "--ids 1 --ctx-size 5000"), 1, {"5000", "max_position_embeddings"});
  ExpectSays(Fathom(generate + "--ids 5 -n 4 > /dev/full"), 1, {"standard output"});
}

TEST(Cli, InvalidUtf8OnStdinIsReadAsReplacementCharacters) {
  const Ran r = Fathom("generate " + std::string(kModel) + " -n 2 --temperature 0 --json 2>/dev/null", "a\\377\\376b");
  EXPECT_EQ(r.code, 0) << r.out;
  EXPECT_TRUE(nlohmann::json::accept(r.out)) << r.out;
}

TEST(Cli, NanInAWeightIsNamed) {
  const Scratch dir;
  const std::string model = dir / "m";
  ASSERT_EQ(Fathom(std::string("init ") + FATHOM_SOURCE_DIR "/tests/golden/v3-odd/config.json " + model +
                   " --dtype f32 --seed 1")
                .code,
            0);
  // The first layer's o_proj: found by the header, its first value made a NaN.
  std::fstream f(model + "/model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  uint64_t header = 0;
  f.read(reinterpret_cast<char*>(&header), 8);
  std::string json(header, ' ');
  f.read(json.data(), static_cast<std::streamsize>(header));
  const uint64_t begin = nlohmann::json::parse(json)["model.layers.0.self_attn.o_proj.weight"]["data_offsets"][0];
  const uint32_t nan = 0x7fc00000;
  f.seekp(static_cast<std::streamoff>(8 + header + begin));
  f.write(reinterpret_cast<const char*>(&nan), 4);
  f.close();
  ExpectSays(Fathom("generate " + model + " --ids 5,6,7 -n 4"), 1,
             {"layer 0", "model.layers.0.self_attn.o_proj.weight"});
  ExpectSays(Fathom("inspect " + model + " --scan"), 1, {"model.layers.0.self_attn.o_proj.weight"});
}

// Sends a signal to a run of some minutes in its midst.
int SignalledExit(int signal) {
  const Scratch dir;
  const std::string prompts = dir / "p.txt";
  std::ofstream many(prompts);
  for (int i = 0; i < 20000; ++i) many << "The fox\n";
  many.close();
  const pid_t child = fork();
  if (child == 0) {
    if (!std::freopen("/dev/null", "w", stdout) || !std::freopen("/dev/null", "w", stderr)) _exit(98);
    execl(FATHOM_BINARY, "fathom", "generate", kModel, "--input-file", prompts.c_str(), "-n", "900", "--ignore-eos",
          static_cast<char*>(nullptr));
    _exit(99);
  }
  std::this_thread::sleep_for(std::chrono::milliseconds(700));
  kill(child, signal);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}
TEST(Cli, CtrlCIs130) { EXPECT_EQ(SignalledExit(SIGINT), 130); }
TEST(Cli, SigtermIs143) { EXPECT_EQ(SignalledExit(SIGTERM), 143); }

TEST(Cli, AClosedPipeIsQuiet) {
  const Ran r =
      Fathom("generate " + std::string(kModel) + " --ids 5 -n 400 --ignore-eos 2>/dev/null | head -c 1 > /dev/null");
  EXPECT_EQ(r.out, "");
}

}  // namespace
}  // namespace fathom
