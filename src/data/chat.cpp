#include "data/chat.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace fathom::data {
namespace {

using nlohmann::ordered_json;

constexpr int kMaxDepth = 64;
constexpr std::string_view kThink = "<think>";

bool IsAssistant(const ordered_json& message) { return message.at("role") == "assistant"; }

}  // namespace

Result<ordered_json> MessagesOfLine(std::string_view line) {
  bool deep = false;
  const ordered_json record = ordered_json::parse(
      line.begin(), line.end(),
      [&deep](int depth, ordered_json::parse_event_t, ordered_json&) {
        deep = deep || depth > kMaxDepth;
        return !deep;
      },
      false);
  if (deep) return Error("nested too deeply", "", fmt::format("at most {} levels", kMaxDepth));
  if (!record.is_object()) return Error("no JSON object", "", "{\"messages\": [...]}");
  const auto messages = record.find("messages");
  if (messages == record.end() || !messages->is_array()) return Error("no list \"messages\"");
  bool assistant = false;
  for (size_t i = 0; i < messages->size(); ++i) {
    const ordered_json& m = (*messages)[i];
    const auto text = [&m](const char* key) {
      const auto at = m.is_object() ? m.find(key) : m.end();
      return m.is_object() && at != m.end() && at->is_string();
    };
    if (!text("role") || !text("content")) return Error(fmt::format("messages[{}] has no role or no content", i));
    assistant = assistant || IsAssistant(m);
  }
  if (!assistant) return Error("no turn of the assistant");
  return *messages;
}

std::string ContentsOfLine(std::string_view line) {
  const Result<ordered_json> messages = MessagesOfLine(line);
  std::string text;
  if (!messages) return text;
  for (const ordered_json& m : messages.Value()) {
    text += m.at("content").get_ref<const std::string&>();
    text += '\n';
  }
  return text;
}

ChatEncoder::ChatEncoder(const tokenizer::Tokenizer& tokenizer, tokenizer::ChatTemplate chat_template)
    : tokenizer_(tokenizer), template_(chat_template) {
  if (tokenizer.bos_id()) bos_ = tokenizer.TokenBytes(*tokenizer.bos_id());
  if (tokenizer.eos_id()) eos_ = tokenizer.TokenBytes(*tokenizer.eos_id());
}

Result<std::vector<int32_t>> ChatEncoder::Encode(const ordered_json& messages) const {
  struct Turn {
    size_t begin, end;  // of what is learned, in the whole text
  };
  std::vector<Turn> turns;
  std::string whole;
  for (size_t i = 0; i < messages.size(); ++i) {
    if (!IsAssistant(messages[i])) continue;
    std::string_view answer = messages[i].at("content").get_ref<const std::string&>();
    const ordered_json before(messages.begin(), messages.begin() + static_cast<ptrdiff_t>(i));
    Result<std::string> prompt = tokenizer::RenderChat(
        template_, before,
        {.bos_token = bos_, .eos_token = eos_, .add_generation_prompt = true, .thinking = answer.starts_with(kThink)});
    if (!prompt) return prompt.error();
    std::string& text = prompt.Value();
    if (!text.starts_with(whole)) turns.clear();
    whole = std::move(text);
    if (answer.starts_with(kThink)) {  // which the prompt may have said already
      for (const std::string_view opened : {"<think>\n", "<think>"}) {
        if (!whole.ends_with(opened)) continue;
        answer.remove_prefix(answer.starts_with(opened) ? opened.size() : kThink.size());
        break;
      }
    }
    const size_t begin = whole.size();
    whole += answer;
    whole += eos_;
    turns.push_back({begin, whole.size()});
  }
  std::vector<int32_t> ids;
  size_t at = 0;
  const auto append = [&](size_t end, bool learned) {
    for (const int32_t id : tokenizer_.Encode(std::string_view(whole).substr(at, end - at)))
      ids.push_back(learned ? id : Unlearned(id));
    at = end;
  };
  for (const Turn& turn : turns) {
    append(turn.begin, false);
    append(turn.end, true);
  }
  return ids;
}

}  // namespace fathom::data
