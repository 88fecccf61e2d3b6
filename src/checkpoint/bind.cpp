#include "checkpoint/bind.h"

#include <fmt/format.h>

#include <charconv>
#include <cstring>

namespace fathom::checkpoint {
namespace {

using kernels::Weight;
using model::ParamInfo;
using model::ParamKind;

bool Readable(ParamKind kind, DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return true;
    case DType::kF16:
    case DType::kBF16:
      return kind != ParamKind::kRouterBias;
    case DType::kF8E4M3:
      return kind == ParamKind::kLinear;
    default:
      return false;
  }
}

std::string ReadableNames(ParamKind kind) {
  switch (kind) {
    case ParamKind::kLinear:
      return "F32, BF16, F16, or F8_E4M3 with weight_scale_inv";
    case ParamKind::kMatrix:
    case ParamKind::kVector:
      return "F32, BF16 or F16";
    case ParamKind::kRouterBias:
      return "F32";
  }
  return "";
}

Shape ScaleShape(const Shape& shape) {
  Shape out;
  for (int64_t d : shape) out.push_back((d + kFp8Block - 1) / kFp8Block);
  return out;
}

class Binder {
 public:
  Binder(const model::ModelConfig& config, TensorSource& source, bool headers_only, Audit& audit)
      : source_(source),
        headers_only_(headers_only),
        audit_(audit),
        ue8m0_(config.quantization_config && config.quantization_config->ue8m0) {}

  void Param(const ParamInfo& info, Weight& w) {
    const std::optional<TensorView> view = source_.Take(info.name, headers_only_, audit_);
    if (!view) {
      if (!info.copy) audit_.Add(Fault::kMissing, info.name, "", ToString(info.shape));
      return;
    }
    Count(*view);
    bool good = true;
    if (view->shape != info.shape) {
      audit_.Add(Fault::kShape, info.name, ToString(view->shape), ToString(info.shape));
      good = false;
    }
    if (!Readable(info.kind, view->dtype)) {
      audit_.Add(Fault::kDtype, info.name, std::string(Name(view->dtype)), ReadableNames(info.kind));
      good = false;
    }
    if (!good) {
      source_.Take(info.name + "_scale_inv", true, audit_);  // it is not the one to blame
      return;
    }
    w.data = view->data;
    w.dtype = view->dtype;
    if (info.kind == ParamKind::kLinear) Scale(info, w);
    ++audit_.tensors;
    audit_.fp8_tensors += w.dtype == DType::kF8E4M3;
  }

 private:
  void Scale(const ParamInfo& info, Weight& w) {
    const std::string name = info.name + "_scale_inv";
    const std::optional<TensorView> scale = source_.Take(name, headers_only_, audit_);
    const Shape expected = ScaleShape(info.shape);
    if (w.dtype != DType::kF8E4M3) {
      if (scale)
        audit_.Add(Fault::kScale, name, fmt::format("scales of a {} weight", Name(w.dtype)), "scales of F8_E4M3 only");
      return;
    }
    if (!scale) {
      audit_.Add(Fault::kScale, name, "missing beside an F8_E4M3 weight", "F32 " + ToString(expected));
      return;
    }
    if (scale->dtype != DType::kF32 || scale->shape != expected) {
      audit_.Add(Fault::kScale, name, fmt::format("{} {}", Name(scale->dtype), ToString(scale->shape)),
                 "F32 " + ToString(expected));
      return;
    }
    w.scale = static_cast<const float*>(scale->data);
    w.ue8m0 = ue8m0_;
    ++audit_.scales;
    Stored& s = audit_.stored["F32 scales"];
    ++s.tensors;
    s.bytes += scale->bytes();
    audit_.bytes += scale->bytes();
  }

  void Count(const TensorView& view) {
    Stored& s = audit_.stored[std::string(Name(view.dtype))];
    ++s.tensors;
    s.bytes += view.bytes();
    audit_.bytes += view.bytes();
  }

  TensorSource& source_;
  bool headers_only_;
  Audit& audit_;
  bool ue8m0_;
};

// MTP layers that are wholly absent are dropped: checkpoints saved by transformers and the demo's shards have none.
void DropAbsentMtp(model::ModelConfig& config, TensorSource& source, Audit& audit) {
  for (int64_t k = 0; k < config.num_nextn_predict_layers; ++k) {
    model::ModelConfig one = config;
    const std::string layer = fmt::format("model.layers.{}.", config.num_hidden_layers + k);
    bool any = false;
    for (const char* name : {"enorm.weight", "hnorm.weight", "eh_proj.weight", "input_layernorm.weight",
                             "self_attn.kv_a_proj_with_mqa.weight", "shared_head.norm.weight"})
      any = any || source.Has(layer + name);
    if (any) continue;
    audit.warnings.push_back(fmt::format(
        "the files hold {} of the {} multi-token-prediction layers of the configuration; generation without "
        "speculation needs none",
        k, config.num_nextn_predict_layers));
    config.num_nextn_predict_layers = k;
    return;
  }
}

void ReportNotTaken(const model::ModelConfig& config, const TensorSource& source, Audit& audit) {
  const int64_t first_unknown = config.num_hidden_layers + config.num_nextn_predict_layers;
  int64_t mtp = 0;
  for (const std::string& name : source.NotTaken()) {
    // Older checkpoints carry the rotation's frequencies; they follow from the configuration.
    if (name.ends_with("rotary_emb.inv_freq")) continue;
    const int64_t layer = LayerOf(name);
    if (config.num_nextn_predict_layers == 0 && layer >= first_unknown &&
        source.Has(fmt::format("model.layers.{}.enorm.weight", layer))) {
      ++mtp;
      continue;
    }
    const bool scale = name.ends_with("_scale_inv") || name.ends_with(".scale");
    audit.Add(scale ? Fault::kScale : Fault::kUnexpected, name,
              scale                    ? "scales without their weight"
              : layer >= first_unknown ? fmt::format("the configuration has layers 0 to {}", first_unknown - 1)
                                       : "the configuration has no such tensor");
  }
  if (mtp > 0)
    audit.warnings.push_back(
        fmt::format("{} tensors of multi-token-prediction layers are not used: num_nextn_predict_layers is 0", mtp));
}

}  // namespace

model::ModelParams Bind(model::ModelConfig& config, TensorSource& source, bool headers_only, Audit& audit) {
  DropAbsentMtp(config, source, audit);
  model::ModelParams params = model::MakeParams(config);
  Binder binder(config, source, headers_only, audit);
  model::ForEachParam(config, params, [&](const ParamInfo& info, Weight& w) { binder.Param(info, w); });
  for (model::MtpParams& mtp : params.mtp) {
    if (!source.Has(
            fmt::format("model.layers.{}.embed_tokens.weight", config.num_hidden_layers + (&mtp - &params.mtp[0]))))
      mtp.embed_tokens = params.embed_tokens;
    if (!source.Has(
            fmt::format("model.layers.{}.shared_head.head.weight", config.num_hidden_layers + (&mtp - &params.mtp[0]))))
      mtp.shared_head_head = params.lm_head;
  }
  ReportNotTaken(config, source, audit);
  if (audit.fp8_tensors > 0 && !config.quantization_config)
    audit.warnings.push_back(
        "FP8 weights, but the configuration has no quantization_config: read as E4M3 in 128x128 blocks");
  if (audit.copied_bytes > 0)
    audit.warnings.push_back(
        fmt::format("{} of weights are copied into memory: joined from shards, or not at a multiple of their "
                    "element size in the file",
                    io::HumanBytes(audit.copied_bytes)));
  return params;
}

int64_t LayerOf(const std::string& name) {
  constexpr std::string_view kPrefix = "model.layers.";
  if (name.rfind(kPrefix, 0) != 0) return -1;
  int64_t layer = -1;
  const auto [end, error] = std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), layer);
  return error == std::errc() && end != name.data() + name.size() && *end == '.' ? layer : -1;
}

bool TensorTable::Add(const io::SafetensorsFile& file, const io::SafetensorsEntry& entry) {
  if (!index_.emplace(entry.name, items_.size()).second) return false;
  items_.push_back({&file, &entry});
  return true;
}

TensorTable::Item* TensorTable::Find(const std::string& name) {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &items_[it->second];
}

const TensorTable::Item* TensorTable::Find(const std::string& name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &items_[it->second];
}

std::vector<std::string> TensorTable::NotTaken() const {
  std::vector<std::string> out;
  for (const Item& item : items_) {
    if (!item.taken) out.push_back(item.entry->name);
  }
  return out;
}

TensorView ViewOrCopy(const TensorTable::Item& item, bool headers_only, std::vector<Buffer>& owned, Audit& audit) {
  TensorView view = item.file->View(*item.entry);
  if (item.file->IsAligned(*item.entry)) return view;
  audit.copied_bytes += view.bytes();
  if (headers_only) {
    view.data = nullptr;
    return view;
  }
  owned.emplace_back(view.bytes());
  std::memcpy(owned.back().data(), view.data, static_cast<size_t>(view.bytes()));
  view.data = owned.back().data();
  return view;
}

}  // namespace fathom::checkpoint
