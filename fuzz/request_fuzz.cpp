// Bodies of chat and completion requests: whatever comes, it is a request or an ApiError, and a request holds only what
// the engine accepts.
#include "core/error.h"
#include "server/chat_request.h"
#include "server/completion_request.h"

namespace {

using namespace fathom;

constexpr int64_t kVocab = 4096;

const server::ServedModel& Model() {
  static const server::ServedModel model = [] {
    server::ServedModel m{.names = {"m"},
                          .text = tokenizer::LoadModelText(FATHOM_SOURCE_DIR "/configs/runs/smoke-tokenizer"),
                          .vocab_size = kVocab,
                          .max_context = 64,
                          .eos_ids = {1}};
    m.Prepare("v3");
    return m;
  }();
  return model;
}

void Check(const server::GenerationFields& g) {
  engine::Validate(g.request.sampling, kVocab);
  FATHOM_CHECK(g.n >= 1 && g.n <= server::kMaxChoices && g.stop.size() <= server::kMaxStops);
  FATHOM_CHECK(!g.max_tokens || *g.max_tokens >= 0);
  FATHOM_CHECK(g.request.logprobs >= -1 && g.request.logprobs <= server::kMaxTopLogprobs);
  for (int32_t id : g.request.eos_ids) FATHOM_CHECK(id >= 0 && id < kVocab);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  server::Json body;
  try {
    body = server::ParseBody(bytes);
  } catch (const server::ApiError& e) {
    FATHOM_CHECK(e.status == 400 && server::Json::accept(server::ErrorJson(e)));
    return 0;
  }
  FATHOM_CHECK(server::Json::accept(bytes));  // no more than JSON is read
  try {
    const server::ChatRequest chat = server::ReadChat(body, Model());
    Check(chat.common);
    Model().RenderChat(chat.messages, chat.thinking, true);
  } catch (const server::ApiError& e) {
    FATHOM_CHECK(server::Json::accept(server::ErrorJson(e)));
  }
  try {
    const server::CompletionRequest completion = server::ReadCompletion(body, Model());
    Check(completion.common);
    FATHOM_CHECK(!completion.prompts.empty());
  } catch (const server::ApiError& e) {
    FATHOM_CHECK(server::Json::accept(server::ErrorJson(e)));
  }
  return 0;
}
