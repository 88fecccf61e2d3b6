// The endpoints of Server that speak JSON.
#include <fmt/format.h>

#include "server/chat_reply.h"
#include "server/chat_request.h"
#include "server/completion_reply.h"
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
          {"root", model.names.front()},
          {"parent", nullptr},
          {"max_model_len", model.max_context},
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
  if (draining_) throw Draining();
  ChatRequest chat = ReadChat(ParseBody(request.body), model_);
  std::vector<PromptIds> prompts = {EncodeChat(model_, chat.messages, chat.thinking)};
  model_.CheckLength(static_cast<int64_t>(prompts.front().ids.size()), "messages");
  std::make_shared<ChatReply>(model_, thread_, metrics_, call, std::move(chat.common), std::move(prompts))->Start();
}

void Server::Completion(const net::HttpRequest& request, const std::shared_ptr<Call>& call) {
  if (draining_) throw Draining();
  const CompletionRequest completion = ReadCompletion(ParseBody(request.body), model_);
  std::make_shared<CompletionReply>(model_, thread_, metrics_, call, completion)->Start();
}

void Server::Models(const net::HttpRequest&, const std::shared_ptr<Call>& call) {
  OrderedJson data = OrderedJson::array();
  for (const std::string& name : model_.names) data.push_back(Describe(model_, name));
  call->Send(JsonResponse({{"object", "list"}, {"data", data}}));
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
    const std::string text =
        model_.RenderChat(ReadMessages(f), ReadThinking(f), f.Bool("add_generation_prompt").value_or(true));
    ids = model_.text.tokenizer.Encode(text);
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
