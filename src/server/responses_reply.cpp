#include "server/responses_reply.h"

#include <fmt/format.h>

#include <ctime>

#include "net/sse.h"
#include "server/json_text.h"
#include "server/logprobs_json.h"

namespace fathom::server {
namespace {

using OrderedJson = nlohmann::ordered_json;

std::string Members(const OrderedJson& object) {
  const std::string text = object.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
  return text.substr(1, text.size() - 2);
}

}  // namespace

ResponsesReply::ResponsesReply(const ServedModel& model, engine::EngineThread& engine, Metrics& metrics,
                               std::shared_ptr<Call> call, ResponsesRequest request, std::vector<PromptIds> prompts)
    : BlockReply(model, engine, metrics, std::move(call), std::move(request.chat.common), std::move(prompts)),
      shown_(Members(request.shown)) {}

std::string_view ResponsesReply::Status() const {
  return state().finish_reason == "length" ? "incomplete" : "completed";
}

std::string ResponsesReply::ItemId(size_t index, const Block& block) const {
  const char* kind = block.kind == Kind::kReasoning ? "rs" : block.kind == Kind::kCall ? "fc" : "msg";
  return fmt::format("{}_{}_{}", kind, id().substr(IdPrefix().size()), index);
}

std::string ResponsesReply::At(size_t index, const Block& block) const {
  return fmt::format(R"("item_id":"{}","output_index":{}{})", ItemId(index, block), index,
                     block.kind == Kind::kCall ? "" : ",\"content_index\":0");
}

std::string ResponsesReply::Logprobs(std::span<const ShownToken> tokens) const {
  std::string out;
  AppendTokenLogprobs(out, model_, tokens);
  return out;
}

std::string ResponsesReply::Part(const Block& block) const {
  if (block.kind == Kind::kReasoning)
    return fmt::format(R"({{"type":"reasoning_text","text":{}}})", Quoted(block.text));
  return fmt::format(R"({{"type":"output_text","text":{},"annotations":[],"logprobs":{}}})", Quoted(block.text),
                     Logprobs(block.tokens));
}

std::string ResponsesReply::Item(size_t index, const Block& block, std::string_view status) const {
  const bool begun = status == "in_progress";
  const std::string content = begun || block.kind == Kind::kCall ? "" : Part(block);
  const std::string head = fmt::format(R"({{"id":"{}","status":"{}")", ItemId(index, block), status);
  if (block.kind == Kind::kReasoning) {
    return fmt::format(R"({},"type":"reasoning","summary":[],"content":[{}]}})", head, content);
  }
  if (block.kind == Kind::kCall) {
    return fmt::format(R"({},"type":"function_call","call_id":"{}","name":"{}","arguments":{}}})", head, block.id,
                       block.name, Quoted(begun ? "" : block.text));
  }
  return fmt::format(R"({},"type":"message","role":"assistant","content":[{}]}})", head, content);
}

// The last one is not complete where the answer is not.
std::string ResponsesReply::ItemStatus(size_t index) const {
  return std::string(index + 1 == Blocks().size() && state().finished ? Status() : "completed");
}

std::string ResponsesReply::Response(std::string_view status, const ApiError* error) const {
  std::string items, details = "null", failure = "null", usage = "null", completed = "null";
  if (status != "in_progress") {
    const std::vector<Block> blocks = Blocks();
    for (size_t i = 0; i < blocks.size(); ++i) {
      if (i > 0) items += ',';
      items += Item(i, blocks[i], ItemStatus(i));
    }
    const Usage u = CountUsage();
    usage = fmt::format(R"({{"input_tokens":{},"input_tokens_details":{{"cached_tokens":{},"cache_write_tokens":0}},)"
                        R"("output_tokens":{},"output_tokens_details":{{"reasoning_tokens":{}}},"total_tokens":{}}})",
                        u.prompt, u.cached, u.completion, u.reasoning, u.prompt + u.completion);
  }
  if (status == "completed") completed = std::to_string(std::time(nullptr));
  if (status == "incomplete") details = R"({"reason":"max_output_tokens"})";
  if (error) failure = fmt::format(R"({{"code":"server_error","message":{}}})", Quoted(error->message));
  return fmt::format(R"({{"id":"{}","object":"response","created_at":{},"completed_at":{},"status":"{}","error":{},)"
                     R"("incomplete_details":{},"model":{},"output":[{}],{},"usage":{}}})",
                     id(), created(), completed, status, failure, details, Quoted(fields_.model), items, shown_, usage);
}

std::string ResponsesReply::Body() const { return Response(Status()); }

void ResponsesReply::Event(std::string& out, std::string_view type, std::string_view fields) {
  net::AppendSse(out, fmt::format(R"({{"type":"{}","sequence_number":{},{}}})", type, events_++, fields), type);
}

void ResponsesReply::AppendBegin(std::string& out) {
  const std::string response = "\"response\":" + Response("in_progress");
  Event(out, "response.created", response);
  Event(out, "response.in_progress", response);
}

void ResponsesReply::Open(std::string& out, size_t index, const Block& block) {
  Event(out, "response.output_item.added",
        fmt::format(R"("output_index":{},"item":{})", index, Item(index, block, "in_progress")));
  if (block.kind == Kind::kCall) return;
  Event(out, "response.content_part.added", fmt::format(R"({},"part":{})", At(index, block), Part(block)));
}

void ResponsesReply::Add(std::string& out, size_t index, const Block& block, std::string_view text,
                         std::span<const ShownToken> tokens) {
  if (block.kind == Kind::kReasoning) {
    return Event(out, "response.reasoning_text.delta", fmt::format(R"({},"delta":{})", At(index, block), Quoted(text)));
  }
  if (block.kind == Kind::kCall) {
    return Event(out, "response.function_call_arguments.delta",
                 fmt::format(R"({},"delta":{})", At(index, block), Quoted(text)));
  }
  Event(out, "response.output_text.delta",
        fmt::format(R"({},"delta":{},"logprobs":{})", At(index, block), Quoted(text), Logprobs(tokens)));
}

void ResponsesReply::Close(std::string& out, size_t index, const Block& block) {
  const std::string at = At(index, block), text = Quoted(block.text);
  switch (block.kind) {
    case Kind::kReasoning:
      Event(out, "response.reasoning_text.done", fmt::format(R"({},"text":{})", at, text));
      break;
    case Kind::kCall:
      Event(out, "response.function_call_arguments.done",
            fmt::format(R"({},"name":"{}","arguments":{})", at, block.name, text));
      break;
    case Kind::kText:
      Event(out, "response.output_text.done",
            fmt::format(R"({},"text":{},"logprobs":{})", at, text, Logprobs(block.tokens)));
  }
  if (block.kind != Kind::kCall) {
    Event(out, "response.content_part.done", fmt::format(R"({},"part":{})", at, Part(block)));
  }
  Event(out, "response.output_item.done",
        fmt::format(R"("output_index":{},"item":{})", index, Item(index, block, ItemStatus(index))));
}

void ResponsesReply::AppendEnd(std::string& out) {
  CloseLast(out);
  const std::string_view status = Status();
  Event(out, fmt::format("response.{}", status), "\"response\":" + Response(status));
}

void ResponsesReply::AppendError(std::string& out, const ApiError& error) {
  Event(out, "response.failed", "\"response\":" + Response("failed", &error));
}

}  // namespace fathom::server
