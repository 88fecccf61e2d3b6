// The model that ships: its own goldens (models/fathom-16m/golden.json says what each tensor means), in float32 from
// the stored weights.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "core/compare.h"
#include "engine/engine.h"
#include "engine/trace.h"
#include "io/safetensors.h"
#include "tokenizer/model_files.h"

namespace fathom {
namespace {

constexpr const char* kFolder = FATHOM_SOURCE_DIR "/models/fathom-16m";

std::vector<int32_t> Ids(const io::SafetensorsFile& f, const std::string& name) {
  const TensorView v = f.Get(name);
  const int64_t* p = static_cast<const int64_t*>(v.data);
  return {p, p + v.size()};
}

class Story : public testing::Test {
 protected:
  Story()
      : checkpoint_(checkpoint::Open(kFolder)),
        golden_(io::SafetensorsFile::Open(std::string(kFolder) + "/golden.safetensors").Value()),
        pool_(2),
        ctx_{.pool = pool_, .isa = BestIsa(), .verbose = {}},
        transformer_(checkpoint_.config(), checkpoint_.params(), 512) {}

  checkpoint::Checkpoint checkpoint_;
  io::SafetensorsFile golden_;
  ThreadPool pool_;
  Context ctx_;
  model::Transformer transformer_;
};

TEST_F(Story, GreedyLogitsAndDrafts) {
  for (int i = 0; i < 5; ++i) {
    const std::string n = std::to_string(i);
    const std::vector<int32_t> prompt = Ids(golden_, "prompt_ids." + n), greedy = Ids(golden_, "greedy_ids." + n),
                               drafts = Ids(golden_, "draft_ids." + n);
    engine::Request r;
    r.prompt = prompt;
    r.max_tokens = static_cast<int64_t>(greedy.size());
    r.sampling.temperature = 0;
    engine::Engine engine(ctx_, transformer_, {.max_context = 400});
    EXPECT_EQ(engine.Run(std::span(&r, 1)).front().ids, greedy) << "prompt " << i;

    std::vector<int32_t> all = prompt;
    all.insert(all.end(), greedy.begin(), greedy.end());
    const engine::Trace t = engine::RunTrace(ctx_, transformer_, all, {});
    const size_t v = static_cast<size_t>(checkpoint_.config().vocab_size), p = prompt.size();
    const std::vector<float>& logits = t.at("logits").f32;
    const TensorView last = golden_.Get("last_logits." + n);
    const Comparison c =
        Compare(std::span(logits).subspan((p - 1) * v, v), std::span(static_cast<const float*>(last.data), v));
    EXPECT_LE(c.rel_l2, engine::TraceTolerance(model::Compute::kF32, checkpoint_.config().num_hidden_layers))
        << c.ToString();
    // Row i of the MTP module joins the state of position i, which chose token i + 1, with that token.
    const std::vector<float>& mtp = t.at("mtp_logits.1").f32;
    for (size_t j = 0; j + 1 < drafts.size(); ++j) {
      EXPECT_EQ(engine::ArgMax(std::span(mtp).subspan((p - 1 + j) * v, v)), drafts[j])
          << "prompt " << i << " draft " << j;
    }
  }
}

TEST_F(Story, TextRoundTrip) {
  const tokenizer::ModelText text = tokenizer::LoadModelText(kFolder);
  std::ifstream in(std::string(kFolder) + "/golden.json");
  const nlohmann::json golden = nlohmann::json::parse(in);
  for (size_t i = 0; i < golden["prompts"].size(); ++i) {
    const std::string prompt = golden["prompts"][i]["prompt"];
    std::vector<int32_t> ids = {static_cast<int32_t>(checkpoint_.config().bos_token_id)};
    for (tokenizer::TokenId id : text.tokenizer.Encode(prompt)) ids.push_back(static_cast<int32_t>(id));
    EXPECT_EQ(ids, Ids(golden_, "prompt_ids." + std::to_string(i)));
    std::vector<tokenizer::TokenId> greedy;
    for (int32_t id : Ids(golden_, "greedy_ids." + std::to_string(i)))
      greedy.push_back(static_cast<tokenizer::TokenId>(id));
    EXPECT_EQ(text.tokenizer.Decode(greedy), golden["prompts"][i]["greedy_text"].get<std::string>());
  }
}

// A prompt that begins as another did is not read again, and the answer stays the same.
TEST_F(Story, PrefixesAreShared) {
  engine::Request r;
  r.prompt = Ids(golden_, "prompt_ids.4");
  r.max_tokens = 8;
  r.sampling.temperature = 0;
  engine::Engine fresh(ctx_, transformer_, {.max_context = 400});
  const std::vector<int32_t> expected = fresh.Run(std::span(&r, 1)).front().ids;
  engine::Engine warm(ctx_, transformer_, {.max_context = 400});
  engine::Request half = r;
  half.prompt.resize(150);
  warm.Run(std::span(&half, 1));
  const engine::Answer a = warm.Run(std::span(&r, 1)).front();
  EXPECT_EQ(a.cached_tokens, 128);  // whole blocks
  EXPECT_EQ(a.ids, expected);
}

// More requests than run at once are answered to the end, each answer as if alone (float32 logits of these prompts lie
// 4e-3 apart or more).
TEST_F(Story, MoreRequestsThanRun) {
  std::vector<engine::Request> requests;
  std::vector<std::vector<int32_t>> expected;
  for (int i = 0; i < 8; ++i) {
    engine::Request r;
    r.prompt = Ids(golden_, "prompt_ids." + std::to_string(i % 4));
    r.max_tokens = 10 + i;
    r.sampling.temperature = 0;
    requests.push_back(r);
    std::vector<int32_t> greedy = Ids(golden_, "greedy_ids." + std::to_string(i % 4));
    greedy.resize(static_cast<size_t>(10 + i));
    expected.push_back(greedy);
  }
  engine::Engine engine(ctx_, transformer_, {.max_context = 64, .cache_tokens = 192, .max_running = 3});
  const std::vector<engine::Answer> answers = engine.Run(requests);
  for (size_t i = 0; i < answers.size(); ++i) EXPECT_EQ(answers[i].ids, expected[i]) << i;
  EXPECT_EQ(engine.arena_overflows(), 0);
}

}  // namespace
}  // namespace fathom
