#include "data/window.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "core/rng.h"
#include "data/chat.h"
#include "data/hash.h"
#include "data/packing.h"

namespace fathom::data {
namespace {

constexpr uint64_t kSequenceOrder = 0x534551;

}  // namespace

WindowBuilder::WindowBuilder(DocumentStream& stream, int64_t size, int64_t sequences, bool shuffle, uint64_t seed)
    : stream_(stream), size_(size), sequences_(sequences), shuffle_(shuffle), seed_(HashPair(seed, kSequenceOrder)) {}

WindowPlace WindowBuilder::Place() const {
  if (taken_ < pending_.size()) return {stream_.StateBefore(), static_cast<int64_t>(taken_)};
  return {stream_.State(), 0};
}

void WindowBuilder::Restore(const WindowPlace& place) {
  stream_.Restore(place.stream);
  pending_.clear();
  taken_ = 0;
  if (place.skip == 0) return;
  if (!stream_.Next(&pending_) || place.skip < 0 || place.skip >= static_cast<int64_t>(pending_.size())) {
    throw Error("data: the cursor names a place that the documents do not have",
                fmt::format("token {} of a document of {}", place.skip, pending_.size()), "",
                "the files have changed, or the checkpoint is damaged");
  }
  taken_ = static_cast<size_t>(place.skip);
}

void WindowBuilder::Build(Window* window) {
  window->begin = Place();
  tokens_.clear();
  lengths_.clear();
  const auto wanted = static_cast<size_t>(size_ * sequences_);
  while (tokens_.size() < wanted) {
    if (taken_ == pending_.size()) {
      taken_ = 0;
      if (!stream_.Next(&pending_)) {
        pending_.clear();
        break;
      }
    }
    const size_t count = std::min(pending_.size() - taken_, wanted - tokens_.size());
    const auto from = pending_.begin() + static_cast<ptrdiff_t>(taken_);
    const bool lost = taken_ > 0 && !Learned(pending_[0]);  // as below, cut by the window's end
    for (auto id = from; id < from + static_cast<ptrdiff_t>(count); ++id)
      tokens_.push_back(lost ? Unlearned(*id) : *id);
    lengths_.push_back(static_cast<int64_t>(count));
    taken_ += count;
  }
  for (auto over = static_cast<int64_t>(tokens_.size()) % size_; over > 0;) {  // the stream has ended
    const int64_t less = std::min(over, lengths_.back());
    over -= less;
    lengths_.back() -= less;
    if (lengths_.back() == 0) lengths_.pop_back();
  }
  window->end = Place();

  const Packing packing = PackBestFit(lengths_, size_);
  window->sequences = static_cast<int64_t>(packing.sequences.size());
  window->documents = static_cast<int64_t>(lengths_.size());
  const int64_t cuts_at_end = window->end.skip > 0;
  window->cuts = packing.cuts + cuts_at_end;
  window->cuts_without_packing = cuts_at_end;
  std::vector<int64_t> begins(lengths_.size());  // of the documents in tokens_
  int64_t sum = 0;
  for (size_t i = 0; i < lengths_.size(); ++i) {
    begins[i] = sum;
    sum += lengths_[i];
    window->cuts_without_packing += (sum - 1) / size_ - begins[i] / size_;
  }

  std::vector<size_t> order(packing.sequences.size());
  std::iota(order.begin(), order.end(), size_t{0});
  if (shuffle_) {
    Rng rng(seed_,
            HashPair(static_cast<uint64_t>(window->begin.stream.documents), static_cast<uint64_t>(window->begin.skip)));
    for (size_t i = order.size(); i > 1; --i) {
      std::swap(order[i - 1], order[static_cast<size_t>(rng.NextBelow(static_cast<int64_t>(i)))]);
    }
  }
  window->ids.clear();
  window->ids.reserve(static_cast<size_t>(window->sequences * size_));
  window->starts.assign(order.size(), {});
  for (size_t s = 0; s < order.size(); ++s) {
    int32_t at = 0;
    for (const Piece& piece : packing.sequences[order[s]]) {
      window->starts[s].push_back(at);
      const int64_t begin = begins[static_cast<size_t>(piece.document)];
      const auto from = tokens_.begin() + begin + piece.begin;
      // The rest of a conversation that was cut has lost its question: nothing of it is learned.
      const bool lost = piece.begin > 0 && !Learned(tokens_[static_cast<size_t>(begin)]);
      for (auto id = from; id < from + piece.length; ++id) window->ids.push_back(lost ? Unlearned(*id) : *id);
      at += static_cast<int32_t>(piece.length);
    }
  }
}

}  // namespace fathom::data
