// The endpoints of Server that speak JSON.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include "server/chat_reply.h"
#include "server/chat_request.h"
#include "server/completion_reply.h"
#include "server/messages_reply.h"
#include "server/messages_request.h"
#include "server/responses_reply.h"
#include "server/server.h"

namespace fathom::server {
namespace {

using OrderedJson = nlohmann::ordered_json;

net::HttpResponse JsonResponse(const OrderedJson& json) {
  return {.headers = {{"Content-Type", "application/json"}},
          .body = json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace)};
}

// What a client may want to know before it asks: the chat page shows its controls by it.
OrderedJson Describe(const ServedModel& model, const std::string& name) {
  const engine::SamplingParams& d = model.defaults;
  return {{"id", name},
          {"object", "model"},
          {"created", model.created},
          {"owned_by", "fathom"},
          {"type", "model"},  // with the next two, what Anthropic's clients read
          {"display_name", name},
          {"created_at", fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(static_cast<std::time_t>(model.created)))},
          {"root", model.names.front()},
          {"parent", nullptr},
          {"max_model_len", model.max_context},
          {"meta",
           {{"n_vocab", model.vocab_size},
            {"n_ctx", model.max_context},
            {"n_ctx_train", model.figures.n_ctx_train},
            {"n_embd", model.figures.n_embd},
            {"n_params", model.figures.params},
            {"size", model.figures.bytes}}},
          {"completion_only", !model.chat},
          {"chat_template", model.chat ? OrderedJson(tokenizer::Name(*model.chat)) : OrderedJson(nullptr)},
          {"default_sampling",
           {{"temperature", d.temperature},
            {"top_p", d.top_p},
            {"top_k", d.top_k},
            {"min_p", d.min_p},
            {"repetition_penalty", d.repetition_penalty}}}};
}

}  // namespace

void Server::Chat(const net::HttpRequest& request, const std::shared_ptr<Call>& call) {
  CheckReady();
  ChatRequest chat = ReadChat(ParseBody(request.body), model_, request.path.rfind("/beta/", 0) == 0, request.body);
  std::vector<PromptIds> prompts = {EncodeChat(model_, chat)};
  HoldToForm(model_, prompts.front().start, chat);
  Answer(std::make_shared<ChatReply>(model_, thread_, metrics_, call, std::move(chat.common), std::move(prompts)));
}

void Server::Completion(const net::HttpRequest& request, const std::shared_ptr<Call>& call) {
  CheckReady();
  CompletionRequest completion = ReadCompletion(ParseBody(request.body), model_, call->dialect() == Dialect::kDeepSeek);
  HoldToStructure(model_, ReasoningSplitter::Start::kAnswering, completion.common);
  Answer(std::make_shared<CompletionReply>(model_, thread_, metrics_, call, completion));
}

void Server::Messages(const net::HttpRequest& request, const std::shared_ptr<Call>& call) {
  CheckReady();
  ChatRequest chat = ReadMessagesRequest(ParseBody(request.body), model_, /*generate=*/true, request.body);
  std::vector<PromptIds> prompts = {EncodeChat(model_, chat)};
  HoldToForm(model_, prompts.front().start, chat);
  Answer(std::make_shared<MessagesReply>(model_, thread_, metrics_, call, std::move(chat.common), std::move(prompts)));
}

void Server::CountTokens(const net::HttpRequest& request, const std::shared_ptr<Call>& call) {
  const ChatRequest chat = ReadMessagesRequest(ParseBody(request.body), model_, /*generate=*/false, request.body);
  call->Send(JsonResponse({{"input_tokens", EncodeChat(model_, chat).ids.size()}}));
}

void Server::Responses(const net::HttpRequest& request, const std::shared_ptr<Call>& call) {
  CheckReady();
  ResponsesRequest responses = ReadResponses(ParseBody(request.body), model_, request.body);
  std::vector<PromptIds> prompts = {EncodeChat(model_, responses.chat)};
  HoldToForm(model_, prompts.front().start, responses.chat);
  Answer(std::make_shared<ResponsesReply>(model_, thread_, metrics_, call, std::move(responses), std::move(prompts)));
}

void Server::Embeddings(const net::HttpRequest&, const std::shared_ptr<Call>&) {
  throw Refused(
      501, fmt::format("{} writes text; it has no embeddings, and this server no model that has", model_.names.front()),
      "not_implemented");
}

// Nothing is charged here: the figure is the operator's, for clients that ask before they begin.
void Server::Balance(const net::HttpRequest&, const std::shared_ptr<Call>& call) {
  const std::string total = fmt::format("{:.2f}", options_.balance.value_or(0));
  call->Send(JsonResponse({{"is_available", !options_.balance || *options_.balance > 0},
                           {"balance_infos",
                            {{{"currency", options_.currency},
                              {"total_balance", total},
                              {"granted_balance", "0.00"},
                              {"topped_up_balance", total}}}}}));
}

void Server::Models(const net::HttpRequest&, const std::shared_ptr<Call>& call) {
  call->Send({.headers = {{"Content-Type", "application/json"}},
              .body = fmt::format(R"({{"object":"list","data":{}}})", ModelsJson())});
}

std::string Server::ModelsJson() const {
  OrderedJson data = OrderedJson::array();
  for (const std::string& name : model_.names) data.push_back(Describe(model_, name));
  return data.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

void Server::Model(const net::HttpRequest& request, const std::shared_ptr<Call>& call) {
  const std::string name = request.path.substr(std::string_view("/v1/models/").size());
  const Json asked = {{"model", name.empty() ? "(none)" : name}};
  CheckModel(Fields(asked), model_);
  call->Send(JsonResponse(Describe(model_, name)));
}

void Server::Tokenize(const net::HttpRequest& request, const std::shared_ptr<Call>& call) {
  const Json body = ParseBody(request.body);
  const Fields f(body);
  CheckModel(f, model_);
  const std::optional<std::string> prompt = f.String("prompt");
  if (prompt.has_value() == f.Has("messages")) f.Fail("prompt", "or messages is needed, one of the two");
  std::vector<int32_t> ids;
  if (prompt) {
    ids = model_.text.tokenizer.Encode(
        *prompt, {.add_bos = f.Bool("add_special_tokens").value_or(true) && model_.text.add_bos_token &&
                             model_.text.tokenizer.bos_id().has_value()});
  } else {
    const OrderedJson messages = ReadMessages(f);
    const ToolRequest tools = ReadTools(f, model_, request.body);
    const std::string text =
        model_.RenderChat(messages, ReadThinking(f), f.Bool("add_generation_prompt").value_or(true), &tools.shown);
    const auto format = model_.chat->tool_format();
    ids = EncodeConversation(model_.text.tokenizer, model_.answers.get(), text, model_.text.eos_token,
                             AnswersOf(messages, format));
  }
  OrderedJson answer = {{"count", ids.size()}, {"max_model_len", model_.max_context}, {"tokens", ids}};
  if (f.Bool("return_token_strs").value_or(false)) {
    OrderedJson& names = answer["token_strs"] = OrderedJson::array();
    for (int32_t id : ids) names.push_back(std::string(model_.TokenBytes(id)));
  }
  call->Send(JsonResponse(answer));
}

void Server::Detokenize(const net::HttpRequest& request, const std::shared_ptr<Call>& call) {
  const Json body = ParseBody(request.body);
  const Fields f(body);
  CheckModel(f, model_);
  if (!f.Has("tokens")) f.Fail("tokens", "is missing: a list of token ids is expected");
  const std::vector<int32_t> ids = f.Tokens("tokens", model_.vocab_size);
  call->Send(JsonResponse({{"prompt", model_.text.tokenizer.Decode(ids)}}));
}

void Server::Version(const net::HttpRequest&, const std::shared_ptr<Call>& call) {
  call->Send(JsonResponse({{"version", options_.version}}));
}

}  // namespace fathom::server
