// Blocks of the prefix tree and the store that outlives them. Blocks go to the store as they enter the tree; before a
// request is admitted the store is asked for blocks that follow those which the tree has, and the request waits beside
// the queue until they are in the tree. Then it is admitted as any other.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "engine/engine_state.h"

namespace fathom::engine {
namespace {

constexpr int64_t kLoadsAtOnce = 4;
constexpr int64_t kStoreAtEnd = 16 << 20;  // bytes that the end of a sequence may copy
constexpr int64_t kProbes = 16;            // one in so many loads that seem not to pay is made all the same
constexpr double kShareOfStep = 0.1, kLeastReceiving = 0.001, kMostReceiving = 0.02;  // seconds for copying a step
constexpr double kPatience = 2;  // seconds for a block, as long as nobody knows what computing it takes
constexpr double kLeastPatience = 0.1;
constexpr double kNap = 0.001;

int64_t MainBytes(const LatentLayout& layout, int64_t layers) { return layers * kBlockTokens * layout.row.row_bytes(); }

Clock::time_point After(Clock::time_point from, double seconds) {
  return from + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

}  // namespace

// All that a row depends on besides the tokens before it. Not the number of layers: a block without the MTP module's
// rows is shorter.
std::string Engine::State::Identity() const {
  const LatentLayout& layout = pool_.layout();
  const std::string text =
      fmt::format("{}\n{}\n{} {} {} {} {} {} {}", options.model_identity, model::ToJson(transformer_.config()),
                  kernels::Name(options.compute), Name(options.cache_dtype), Name(ctx_.isa), layout.row.width,
                  layout.row.row_bytes(), kBlockTokens, options.batch_invariant ? "invariant" : "free");
  return io::Hex(io::Sha256(text));
}

const cache::BlockKey& Engine::State::KeyOf(Sequence& s, size_t block) {
  while (s.keys.size() <= block) {
    if (s.keys.empty()) identity_ = identity_.empty() ? Identity() : identity_;
    const cache::BlockKey before =
        s.keys.empty() ? cache::RootKey(identity_, s.request.cache_scope) : cache::BlockKey(s.keys.back());
    const size_t begin = s.keys.size() * static_cast<size_t>(kBlockTokens);
    s.keys.push_back(cache::NextKey(before, std::span(s.tokens).subspan(begin, kBlockTokens)));
  }
  return s.keys[block];
}

bool Engine::State::Store(Sequence& s, size_t block) {
  if (!options.block_store) return true;
  const PrefixTree::Node node = s.nodes[block];
  const int64_t bytes = tree_.drafts(node) ? pool_.layout().block_bytes()
                                           : MainBytes(pool_.layout(), transformer_.config().num_hidden_layers);
  const cache::BlockKey& key = KeyOf(s, block);
  const bool taken = options.block_store->Put(key, block == 0 ? nullptr : &s.keys[block - 1],
                                              {pool_.Data(tree_.Block(node)), static_cast<size_t>(bytes)});
  s.unstored = s.unstored || !taken;
  return taken;
}

// What was refused before, because the queue was full or a block before it was missing.
void Engine::State::StoreRest(Sequence& s) {
  if (!s.unstored || s.nodes.empty()) return;
  KeyOf(s, s.nodes.size() - 1);
  const auto first =
      static_cast<size_t>(options.block_store->Find(std::span(std::as_const(s.keys)).first(s.nodes.size())));
  const auto most = static_cast<size_t>(std::max<int64_t>(kStoreAtEnd / pool_.layout().block_bytes(), 1));
  for (size_t i = first; i < std::min(first + most, s.nodes.size()) && Store(s, i); ++i) {
  }
  s.unstored = false;
}

bool Engine::State::Loading() const {
  return std::any_of(waiting_.begin(), waiting_.end(), [](const auto& s) { return s->load != nullptr; });
}

// A step whose rows are mostly a prompt's says what computing a row takes.
void Engine::State::MeasureRows(int64_t rows, double seconds) {
  constexpr double kNew = 0.2;
  if (rows < kBlockTokens) return;
  const double a_row = seconds / static_cast<double>(rows);
  row_seconds_ = row_seconds_ == 0 ? a_row : (1 - kNew) * row_seconds_ + kNew * a_row;
}

bool Engine::State::ReadingPays() {
  const double reading = options.block_store->ReadSeconds(pool_.layout().block_bytes());
  if (row_seconds_ == 0 || reading < row_seconds_ * kBlockTokens) return true;
  return ++dear_loads_ % kProbes == 0;
}

// True if the sequence must wait: `found` positions are in the tree, and blocks behind them are on their way.
bool Engine::State::AskStore(Sequence& s, int64_t found) {
  if (!options.block_store || s.asked) return false;
  const auto first = static_cast<size_t>(found / kBlockTokens), end = static_cast<size_t>(Reusable(s) / kBlockTokens);
  if (end > 0) KeyOf(s, end - 1);
  const auto wanted = std::span(std::as_const(s.keys)).subspan(first, end - first);
  const int64_t there = options.block_store->Find(wanted);
  if (there > 0 && std::count_if(waiting_.begin(), waiting_.end(), [](const auto& w) { return w->load != nullptr; }) >=
                       kLoadsAtOnce) {
    return true;  // and ask again
  }
  s.asked = true;
  stats_.disk_queries += static_cast<int64_t>(wanted.size()) * kBlockTokens;
  if (first > 0) options.block_store->Touch(s.keys[first - 1]);
  if (there == 0 || !ReadingPays()) return false;
  s.load = options.block_store->Load({wanted.begin(), wanted.begin() + there});
  s.load_next = first;
  const double limit = static_cast<double>(there * kBlockTokens) * row_seconds_;
  s.load_deadline = After(Clock::now(), limit > 0 ? std::max(limit, kLeastPatience) : kPatience);
  return true;
}

// Copies blocks that have come into the pool and the tree, for a small part of a step's time.
void Engine::State::ReceiveBlocks() {
  const double step = stats_.steps > 0 ? stats_.step_seconds / static_cast<double>(stats_.steps) : 0;
  const double seconds = running_.empty() ? kMostReceiving : std::max(kLeastReceiving, kShareOfStep * step);
  const Clock::time_point end = After(Clock::now(), seconds);
  for (auto& s : waiting_) {
    if (s->load) Receive(*s, end);
  }
}

void Engine::State::Receive(Sequence& s, Clock::time_point end) {
  const LatentLayout& layout = pool_.layout();
  const int64_t main = MainBytes(layout, transformer_.config().num_hidden_layers);
  const int64_t whole = main + kBlockTokens * layout.row.row_bytes();
  const auto tokens = std::span(std::as_const(s.tokens)).first(static_cast<size_t>(Reusable(s)));
  std::vector<PrefixTree::Node> path;
  bool gives_up = false;
  do {
    const std::optional<std::vector<std::byte>> bytes = s.load->Take();
    if (!bytes) break;
    if (path.empty()) {
      path = tree_.Match(s.request.cache_scope, tokens);
      for (PrefixTree::Node node : path) tree_.Acquire(node);
    }
    const size_t i = s.load_next++;
    if (i < path.size()) continue;  // somebody has computed it meanwhile
    const auto size = static_cast<int64_t>(bytes->size());
    gives_up = i > path.size() || (size != main && size != whole) || blocks_left() == 0;
    if (gives_up) break;
    const int32_t block = TakeBlock();
    std::byte* to = pool_.Data(block);
    constexpr int64_t kPiece = 256 << 10;
    const int64_t copied = std::min(size, layout.block_bytes());
    ctx_.pool.ParallelFor((copied + kPiece - 1) / kPiece, [&](int64_t piece, int) {
      const int64_t begin = piece * kPiece;
      std::memcpy(to + begin, bytes->data() + begin, static_cast<size_t>(std::min(kPiece, copied - begin)));
    });
    const auto [node, fresh] = tree_.Insert(s.request.cache_scope, path.empty() ? PrefixTree::kRoot : path.back(),
                                            tokens.subspan(i * static_cast<size_t>(kBlockTokens), kBlockTokens), block,
                                            options.drafts > 0 && size == whole);
    FATHOM_CHECK(fresh, "the path was matched to its end");
    path.push_back(node);
    stats_.disk_hits += kBlockTokens;
    if (row_seconds_ == 0) s.load_deadline = After(Clock::now(), kPatience);
  } while (Clock::now() < end);
  while (!path.empty()) {
    tree_.Release(path.back());
    path.pop_back();
  }
  if (!gives_up && Clock::now() > s.load_deadline) {
    gives_up = true;
    ++stats_.disk_late;
  }
  if (gives_up || s.load->Ended()) s.load.reset();
}

void Engine::State::AwaitBlocks() {
  for (auto& s : waiting_) {
    if (s->load) return s->load->Wait(kNap);
  }
}

}  // namespace fathom::engine
