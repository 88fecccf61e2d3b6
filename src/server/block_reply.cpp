#include "server/block_reply.h"

namespace fathom::server {

void BlockReply::Begin(std::string& out, Block block) {
  if (!blocks_.empty()) Close(out, blocks_.size() - 1, blocks_.back());
  blocks_.push_back(std::move(block));
  Open(out, blocks_.size() - 1, blocks_.back());
}

void BlockReply::Put(std::string& out, Kind kind, std::string_view text, std::span<const ShownToken> tokens) {
  if (blocks_.empty() || blocks_.back().kind != kind) Begin(out, {.kind = kind, .text = ""});
  Block& block = blocks_.back();
  block.text += text;
  block.tokens.insert(block.tokens.end(), tokens.begin(), tokens.end());
  if (!text.empty() || !tokens.empty()) Add(out, blocks_.size() - 1, block, text, tokens);
}

void BlockReply::AppendChunks(std::string& out, size_t, State&, const Delta& delta, std::string_view finish_reason) {
  const bool thinks = !delta.reasoning.empty();
  if (thinks) Put(out, Kind::kReasoning, delta.reasoning, {});
  if (!delta.content.empty() || (!thinks && !delta.tokens.empty())) Put(out, Kind::kText, delta.content, delta.tokens);
  for (const CallDelta& call : delta.calls) {
    if (!call.name.empty()) Begin(out, {.kind = Kind::kCall, .text = "", .id = call.id, .name = call.name});
    if (!call.arguments.empty()) Put(out, Kind::kCall, call.arguments, {});
  }
  if (!finish_reason.empty() && blocks_.empty()) Put(out, Kind::kText, "", {});
}

void BlockReply::CloseLast(std::string& out) {
  if (!blocks_.empty() && !std::exchange(closed_, true)) Close(out, blocks_.size() - 1, blocks_.back());
}

std::vector<BlockReply::Block> BlockReply::Blocks() const {
  if (fields_.stream) return blocks_;
  const Delta& all = state().text;
  std::vector<Block> blocks;
  if (!all.reasoning.empty()) blocks.push_back({.kind = Kind::kReasoning, .text = all.reasoning});
  if (!all.content.empty() || (blocks.empty() && all.calls.empty())) {
    blocks.push_back({.kind = Kind::kText, .text = all.content, .tokens = all.tokens});
  }
  for (const CallDelta& call : all.calls) {
    blocks.push_back({.kind = Kind::kCall, .text = call.arguments, .id = call.id, .name = call.name});
  }
  return blocks;
}

}  // namespace fathom::server
