// Bodies of all requests for text: whatever comes, it is a request or an ApiError, and a request holds only what the
// engine accepts.
#include "core/error.h"
#include "server/chat_reply.h"
#include "server/completion_reply.h"
#include "server/messages_request.h"
#include "server/responses_request.h"

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
  const auto attempt = [](const auto& read) {
    try {
      read();
    } catch (const server::ApiError& e) {
      for (auto dialect : {server::Dialect::kOpenAi, server::Dialect::kDeepSeek, server::Dialect::kAnthropic}) {
        FATHOM_CHECK(server::Json::accept(server::ErrorJson(e, dialect)));
      }
    }
  };
  const auto check_chat = [](const server::ChatRequest& chat) {
    Check(chat.common);
    server::EncodeChat(Model(), chat);
  };
  for (bool variant : {false, true}) {
    attempt([&] { check_chat(server::ReadChat(body, Model(), variant)); });
    attempt([&] { check_chat(server::ReadMessagesRequest(body, Model(), variant)); });
    attempt([&] {
      const server::CompletionRequest completion = server::ReadCompletion(body, Model(), variant);
      Check(completion.common);
      FATHOM_CHECK(!completion.prompts.empty());
      for (const server::PromptIds& prompt : server::EncodePrompts(Model(), completion)) {
        for (int32_t id : prompt.ids) FATHOM_CHECK(id >= 0 && id < kVocab);
      }
    });
  }
  attempt([&] {
    const server::ResponsesRequest responses = server::ReadResponses(body, Model());
    FATHOM_CHECK(responses.shown.is_object());
    check_chat(responses.chat);
  });
  return 0;
}
