#include "server/answer_memory.h"

namespace fathom::server {

void AnswerMemory::Remember(const tokenizer::Tokenizer& tokenizer, const std::vector<int32_t>& ids) {
  if (ids.empty() || ids.size() > max_tokens_) return;
  std::string text = tokenizer.Decode(ids, /*skip_special=*/false);
  if (tokenizer.Encode(text) == ids) return;
  const std::scoped_lock lock(mutex_);
  if (const auto at = found_.find(text); at != found_.end()) {
    tokens_ -= at->second->ids.size();
    const auto old = at->second;
    found_.erase(at);
    answers_.erase(old);
  }
  answers_.push_front({std::move(text), ids});
  found_.emplace(answers_.front().text, answers_.begin());
  tokens_ += ids.size();
  while (tokens_ > max_tokens_) {
    tokens_ -= answers_.back().ids.size();
    found_.erase(answers_.back().text);
    answers_.pop_back();
  }
}

std::optional<std::vector<int32_t>> AnswerMemory::Find(std::string_view text) {
  const std::scoped_lock lock(mutex_);
  const auto at = found_.find(text);
  if (at == found_.end()) return std::nullopt;
  answers_.splice(answers_.begin(), answers_, at->second);
  return answers_.front().ids;
}

size_t AnswerMemory::tokens() const {
  const std::scoped_lock lock(mutex_);
  return tokens_;
}

std::vector<int32_t> EncodeConversation(const tokenizer::Tokenizer& tokenizer, AnswerMemory* memory,
                                        std::string_view text, std::string_view eos,
                                        const std::vector<std::string>& answers) {
  std::vector<int32_t> ids;
  const auto append = [&](const std::vector<int32_t>& more) { ids.insert(ids.end(), more.begin(), more.end()); };
  size_t done = 0, from = 0;  // of the text: encoded; looked through
  for (const std::string& answer : answers) {
    if (eos.empty()) break;
    const size_t end = text.find(eos, from);
    if (end == std::string_view::npos) break;
    from = end + eos.size();
    if (answer.empty() || end - done < answer.size() || text.substr(end - answer.size(), answer.size()) != answer)
      continue;
    append(tokenizer.Encode(text.substr(done, end - answer.size() - done)));
    const std::optional<std::vector<int32_t>> known = memory ? memory->Find(answer) : std::nullopt;
    append(known ? *known : tokenizer.Encode(answer));
    done = end;
  }
  append(tokenizer.Encode(text.substr(done)));
  return ids;
}

}  // namespace fathom::server
