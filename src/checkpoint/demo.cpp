#include "checkpoint/demo.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <filesystem>

namespace fathom::checkpoint {
namespace {

struct Renamed {
  std::string_view from, to;
  Cut cut;
};
constexpr std::array<Renamed, 18> kNames = {{{"embed_tokens", "embed", Cut::kRows},
                                             {"input_layernorm", "attn_norm", Cut::kWhole},
                                             {"post_attention_layernorm", "ffn_norm", Cut::kWhole},
                                             {"q_proj", "wq", Cut::kRows},
                                             {"q_a_proj", "wq_a", Cut::kWhole},
                                             {"q_a_layernorm", "q_norm", Cut::kWhole},
                                             {"q_b_proj", "wq_b", Cut::kRows},
                                             {"kv_a_proj_with_mqa", "wkv_a", Cut::kWhole},
                                             {"kv_a_layernorm", "kv_norm", Cut::kWhole},
                                             {"kv_b_proj", "wkv_b", Cut::kRows},
                                             {"o_proj", "wo", Cut::kColumns},
                                             {"gate_proj", "w1", Cut::kRows},
                                             {"down_proj", "w2", Cut::kColumns},
                                             {"up_proj", "w3", Cut::kRows},
                                             {"lm_head", "head", Cut::kRows},
                                             {"self_attn", "attn", Cut::kWhole},
                                             {"mlp", "ffn", Cut::kWhole},
                                             {"model", "", Cut::kWhole}}};

std::vector<std::string> Split(const std::string& name) {
  std::vector<std::string> parts;
  size_t at = 0;
  for (size_t dot; (dot = name.find('.', at)) != std::string::npos; at = dot + 1)
    parts.push_back(name.substr(at, dot - at));
  parts.push_back(name.substr(at));
  return parts;
}

// The index of a routed expert's tensor, -1 for others.
int64_t ExpertOf(const std::string& hf_name) {
  constexpr std::string_view kPart = ".mlp.experts.";
  const size_t at = hf_name.find(kPart);
  if (at == std::string::npos) return -1;
  int64_t expert = -1;
  std::from_chars(hf_name.data() + at + kPart.size(), hf_name.data() + hf_name.size(), expert);
  return expert;
}

// model{i}-mp{n}.safetensors
std::optional<std::pair<int64_t, int64_t>> ParseShardName(const std::string& name) {
  int64_t rank = -1, ranks = -1;
  const char* end = name.data() + name.size();
  if (name.rfind("model", 0) != 0) return std::nullopt;
  auto [p, error] = std::from_chars(name.data() + 5, end, rank);
  if (error != std::errc() || std::string_view(p, static_cast<size_t>(end - p)).rfind("-mp", 0) != 0)
    return std::nullopt;
  auto [q, error2] = std::from_chars(p + 3, end, ranks);
  if (error2 != std::errc() || std::string_view(q, static_cast<size_t>(end - q)) != ".safetensors") return std::nullopt;
  if (rank < 0 || ranks < 1 || rank >= ranks) return std::nullopt;
  return std::pair(rank, ranks);
}

std::vector<std::pair<int64_t, int64_t>> ShardsIn(const std::string& directory) {
  std::vector<std::pair<int64_t, int64_t>> shards;
  std::error_code error;
  for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    if (const auto shard = ParseShardName(it->path().filename().string())) shards.push_back(*shard);
  }
  std::sort(shards.begin(), shards.end());
  return shards;
}

}  // namespace

DemoName ToDemoName(const std::string& hf_name) {
  std::vector<std::string> parts = Split(hf_name);
  DemoName out;
  const bool expert = ExpertOf(hf_name) >= 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    std::string part = parts[i];
    if (i + 1 == parts.size()) {
      if (part == "weight_scale_inv") part = "scale";
      if (part == "e_score_correction_bias") part = "bias";
    } else {
      for (const Renamed& r : kNames) {
        if (r.from != part) continue;
        part = r.to;
        if (i + 2 == parts.size() && !expert) out.cut = r.cut;
        break;
      }
    }
    if (part.empty()) continue;
    if (!out.name.empty()) out.name += '.';
    out.name += part;
  }
  return out;
}

bool IsDemoDirectory(const std::string& directory) { return !ShardsIn(directory).empty(); }

DemoSource::DemoSource(const std::string& directory, int64_t n_routed_experts, Audit& audit)
    : n_routed_experts_(n_routed_experts) {
  const auto shards = ShardsIn(directory);
  FATHOM_CHECK(!shards.empty());
  const int64_t n = shards[0].second;
  for (const auto& shard : shards) {
    if (shard.second != n)
      throw Error(directory + ": shards of different counts lie side by side",
                  fmt::format("mp{} and mp{}", n, shard.second), "one set of model{i}-mp{n}.safetensors",
                  "move the other set to a folder of its own");
  }
  if (static_cast<int64_t>(shards.size()) != n) {
    int64_t absent = 0;
    while (absent < static_cast<int64_t>(shards.size()) && shards[static_cast<size_t>(absent)].first == absent)
      ++absent;
    throw Error(directory + ": shards are missing", fmt::format("{} of {}", shards.size(), n),
                fmt::format("model{}-mp{}.safetensors too", absent, n));
  }
  if (n_routed_experts % n != 0)
    throw Error(directory + ": the experts do not divide over the shards",
                fmt::format("{} experts, {} shards", n_routed_experts, n), "n_routed_experts a multiple of the shards",
                "is this the configuration of these shards?");
  for (int64_t i = 0; i < n; ++i) {
    const std::string path =
        (std::filesystem::path(directory) / fmt::format("model{}-mp{}.safetensors", i, n)).string();
    files_.push_back(std::make_unique<io::SafetensorsFile>(io::SafetensorsFile::Open(path).Value()));
    audit.files.push_back(path);
    TensorTable& table = ranks_.emplace_back();
    for (const io::SafetensorsEntry& e : files_.back()->entries()) table.Add(*files_.back(), e);
  }
}

bool DemoSource::Has(const std::string& name) const {
  const std::string demo = ToDemoName(name).name;
  return std::any_of(ranks_.begin(), ranks_.end(), [&](const TensorTable& t) { return t.Find(demo) != nullptr; });
}

std::optional<TensorView> DemoSource::Take(const std::string& name, bool headers_only, Audit& audit) {
  const DemoName demo = ToDemoName(name);
  const int64_t n = static_cast<int64_t>(ranks_.size());
  const int64_t expert = ExpertOf(name);
  if (expert >= 0) {
    TensorTable::Item* item = ranks_[static_cast<size_t>(expert / (n_routed_experts_ / n))].Find(demo.name);
    if (!item) return std::nullopt;
    item->taken = true;
    return ViewOrCopy(*item, headers_only, owned_, audit);
  }
  std::vector<TensorTable::Item*> parts;
  for (TensorTable& rank : ranks_) {
    TensorTable::Item* item = rank.Find(demo.name);
    if (item) item->taken = true;
    parts.push_back(item);
  }
  if (std::all_of(parts.begin(), parts.end(), [](auto* p) { return p == nullptr; })) return std::nullopt;
  for (int64_t i = 0; i < n; ++i) {
    const TensorTable::Item* item = parts[static_cast<size_t>(i)];
    if (!item) {
      audit.Add(Fault::kMissing, fmt::format("{} of shard {}", demo.name, i));
      return std::nullopt;
    }
    const io::SafetensorsEntry& first = *parts[0]->entry;
    if (item->entry->dtype != first.dtype || item->entry->shape != first.shape) {
      audit.Add(Fault::kShape, fmt::format("{} of shard {}", demo.name, i),
                fmt::format("{} {}", ToString(item->entry->shape), Name(item->entry->dtype)),
                fmt::format("{} {} as in shard 0", ToString(first.shape), Name(first.dtype)));
      return std::nullopt;
    }
  }
  if (n == 1 || demo.cut == Cut::kWhole) return ViewOrCopy(*parts[0], headers_only, owned_, audit);

  const io::SafetensorsEntry& first = *parts[0]->entry;
  TensorView joined{nullptr, first.dtype, first.shape};
  if (first.shape.size() != 2 || NumElements(first.shape) > (int64_t{1} << 50) / n) {
    audit.Add(Fault::kShape, demo.name + " of each shard", ToString(first.shape), "a matrix");
    return std::nullopt;
  }
  joined.shape[demo.cut == Cut::kRows ? 0 : 1] *= n;
  audit.copied_bytes += joined.bytes();
  if (headers_only) return joined;
  owned_.emplace_back(joined.bytes());
  std::byte* out = owned_.back().data();
  // Rows are joined as one long row; columns row by row.
  const int64_t rows = demo.cut == Cut::kRows ? 1 : first.shape[0];
  const int64_t bytes = rows == 0 ? 0 : (first.end - first.begin) / rows;
  for (int64_t r = 0; r < rows; ++r) {
    for (const TensorTable::Item* item : parts) {
      const auto* from = static_cast<const std::byte*>(item->file->View(*item->entry).data) + r * bytes;
      std::memcpy(out, from, static_cast<size_t>(bytes));
      out += bytes;
    }
  }
  joined.data = owned_.back().data();
  return joined;
}

std::vector<std::string> DemoSource::NotTaken() const {
  std::vector<std::string> out;
  for (size_t i = 0; i < ranks_.size(); ++i) {
    for (const std::string& name : ranks_[i].NotTaken())
      out.push_back(ranks_.size() == 1 ? name : fmt::format("shard {}: {}", i, name));
  }
  return out;
}

}  // namespace fathom::checkpoint
