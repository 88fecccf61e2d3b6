#include "data/batches.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "core/error.h"
#include "data/chat.h"
#include "data/window.h"

namespace fathom::data {
namespace {

using nlohmann::json;

constexpr int64_t kCursorVersion = 1;
constexpr size_t kMaxWindows = 2;
constexpr int64_t kMinWindowSequences = 16;
// A window holds at most about a quarter of an epoch (4 bytes a token).
constexpr int64_t kWindowBytesPerToken = 16;

int64_t WindowSequences(const DataOptions& options, int64_t bytes) {
  const int64_t tokens = std::min(options.pack_window_tokens, bytes / kWindowBytesPerToken);
  return std::max(tokens / (options.sequence_length + 1), kMinWindowSequences);
}

std::string Show(const json& value) { return value.is_null() ? "nothing" : value.dump(); }

// The first setting in which two fingerprints differ.
void Compare(const json& ours, const json& theirs, const std::string& where) {
  if (ours == theirs) return;
  if (ours.is_object() && theirs.is_object()) {
    for (const auto& [key, value] : ours.items()) {
      Compare(value, theirs.value(key, json()), where.empty() ? key : where + "." + key);
    }
  }
  if (ours.is_array() && theirs.is_array() && ours.size() == theirs.size()) {
    for (size_t i = 0; i < ours.size(); ++i) Compare(ours[i], theirs[i], fmt::format("{}[{}]", where, i));
  }
  const bool settled = ours.is_array() && theirs.is_array();
  throw Error(fmt::format("data: the cursor is of another stream: {} {}", where.empty() ? "its settings" : where,
                          settled && ours.size() != theirs.size() ? "has another length" : "differs"),
              settled ? fmt::format("{} of them", ours.size()) : Show(ours),
              settled ? fmt::format("{} of them, as when it was written", theirs.size())
                      : Show(theirs) + ", as when it was written",
              "resume with the same data and settings, or start the data anew without the cursor");
}

}  // namespace

// The windows read ahead, and the place of what was handed out. Its thread runs from the first Next on.
class BatchStream::Prefetch {
 public:
  Prefetch(DocumentStream& stream, const DataOptions& options)
      : builder_(stream, options.sequence_length + 1, WindowSequences(options, stream.bytes()),
                 options.shuffle && stream.endless(), options.seed),
        handed_(builder_.Place()) {}
  ~Prefetch() { Stop(); }
  Prefetch(const Prefetch&) = delete;
  Prefetch& operator=(const Prefetch&) = delete;

  // The rows [*first, *first + *count) of the window that is given back, at most `wanted` of them; null at the end.
  const Window* Take(int64_t wanted, int64_t* first, int64_t* count) {
    if (!current_ || index_ == current_->sequences) {
      if (!Advance()) return nullptr;
    }
    *first = index_;
    *count = std::min(wanted, current_->sequences - index_);
    index_ += *count;
    return &*current_;
  }

  // Where the next row is.
  std::pair<WindowPlace, int64_t> Place() const {
    if (current_ && index_ == current_->sequences) return {current_->end, 0};
    return {handed_, index_};
  }

  void Restore(const WindowPlace& place, int64_t index) {
    const auto [old_place, old_index] = Place();
    Stop();
    current_.reset();
    queue_.clear();
    error_ = nullptr;
    try {
      builder_.Restore(place);
    } catch (const Error&) {
      builder_.Restore(old_place);
      handed_ = old_place;
      index_ = old_index;
      throw;
    }
    handed_ = place;
    index_ = index;
    counts_ = {};
  }

  const DataCounts& counts() const { return counts_; }
  const WindowPlace& window_place() const { return handed_; }

 private:
  bool Advance() {
    if (!thread_.joinable()) thread_ = std::thread([this] { Run(); });
    const bool fresh = !current_.has_value();
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return !queue_.empty() || error_; });
      if (queue_.empty()) std::rethrow_exception(error_);
      if (queue_.front().sequences == 0) return false;  // the end; it stays in the queue
      current_ = std::move(queue_.front());
      queue_.pop_front();
    }
    changed_.notify_all();
    handed_ = current_->begin;
    if (!fresh) index_ = 0;
    if (index_ > current_->sequences) {
      throw Error("data: the cursor names a place that the window does not have",
                  fmt::format("sequence {} of {}", index_, current_->sequences), "",
                  "the files have changed, or the checkpoint is damaged");
    }
    counts_.sequences += current_->sequences;
    counts_.documents += current_->documents;
    counts_.cuts += current_->cuts;
    counts_.cuts_without_packing += current_->cuts_without_packing;
    return index_ < current_->sequences || Advance();
  }

  void Run() {
    try {
      for (bool first = true;; first = false) {
        Window window;
        builder_.Build(&window);
        if (first && window.sequences == 0 && window.begin.stream.documents == 0) {
          throw Error("data: the validation documents do not fill one sequence", "",
                      fmt::format("{} tokens or more", builder_.size()),
                      "a larger validation_fraction, more validation_sources, or a shorter sequence_length");
        }
        const bool last = window.sequences == 0;
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return queue_.size() < kMaxWindows || stop_; });
        if (stop_) return;
        queue_.push_back(std::move(window));
        changed_.notify_all();
        if (last) return;
      }
    } catch (...) {
      const std::lock_guard lock(mutex_);
      error_ = std::current_exception();
      changed_.notify_all();
    }
  }

  void Stop() {
    if (!thread_.joinable()) return;
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
    stop_ = false;
  }

  WindowBuilder builder_;  // the thread's, while it runs
  // The caller's:
  std::optional<Window> current_;
  WindowPlace handed_;  // where current_ begins, or what is to be read first
  int64_t index_ = 0;   // rows of it that were handed out
  DataCounts counts_;
  // Of both, under the mutex:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Window> queue_;
  std::exception_ptr error_;
  bool stop_ = false;
  std::thread thread_;
};

BatchStream::BatchStream(const DataOptions& options, const tokenizer::Tokenizer& tokenizer, Split split,
                         OnNotice on_notice)
    : options_(options),
      on_notice_(std::move(on_notice)),
      stream_(std::make_unique<DocumentStream>(options, tokenizer, split, notices_)),
      prefetch_(std::make_unique<Prefetch>(*stream_, options)) {}

BatchStream::~BatchStream() = default;

Batch BatchStream::Next(int64_t sequences) {
  FATHOM_CHECK(sequences >= 0);
  Batch batch;
  batch.length = options_.sequence_length;
  batch.isolate_documents = options_.isolate_documents;
  const int64_t size = batch.length + 1;
  while (batch.sequences < sequences) {
    int64_t first = 0, count = 0;
    const Window* window = prefetch_->Take(sequences - batch.sequences, &first, &count);
    if (window == nullptr) break;
    batch.ids.insert(batch.ids.end(), window->ids.begin() + first * size, window->ids.begin() + (first + count) * size);
    batch.starts.insert(batch.starts.end(), window->starts.begin() + first, window->starts.begin() + first + count);
    batch.sequences += count;
  }
  if (!std::all_of(batch.ids.begin(), batch.ids.end(), Learned)) {
    for (int32_t& id : batch.ids) {
      batch.learned.push_back(Learned(id));
      id = IdOf(id);
    }
  }
  if (on_notice_) {
    for (const Notice& notice : notices_.Take()) on_notice_(notice);
  }
  return batch;
}

void BatchStream::Rewind() {
  StreamState begin;
  begin.sources.resize(stream_->source_count());
  prefetch_->Restore({std::move(begin), 0}, 0);
}

std::string BatchStream::Cursor() const {
  const auto [place, index] = prefetch_->Place();
  return json{{"version", kCursorVersion},
              {"of", stream_->Fingerprint()},
              {"state", ToJson(place.stream)},
              {"skip", place.skip},
              {"sequence", index}}
      .dump();
}

void BatchStream::Restore(std::string_view cursor) {
  const json object = json::parse(cursor, nullptr, false);
  const auto number = [&](const char* key) -> int64_t {
    const auto it = object.is_object() ? object.find(key) : object.end();
    const bool good = it != object.end() && it->is_number_unsigned() && it->get<uint64_t>() <= INT64_MAX;
    if (good) return it->get<int64_t>();
    throw Error("data: the cursor is damaged", fmt::format("no number \"{}\"", key), "a cursor that fathom wrote",
                "resume from the checkpoint before this one");
  };
  if (const int64_t version = number("version"); version != kCursorVersion) {
    throw Error("data: the cursor has another version", fmt::format("{}", version), fmt::format("{}", kCursorVersion));
  }
  Compare(stream_->Fingerprint(), object.value("of", json()), "");
  prefetch_->Restore({StateFromJson(object.value("state", json())), number("skip")}, number("sequence"));
}

DataCounts BatchStream::counts() const {
  DataCounts counts = prefetch_->counts();
  for (const SourceState& source : prefetch_->window_place().stream.sources) {
    counts.epochs.push_back(source.epoch);
    counts.tokens.push_back(source.tokens);
  }
  return counts;
}

NoticeCounts BatchStream::notice_counts() const { return notices_.counts(); }

}  // namespace fathom::data
