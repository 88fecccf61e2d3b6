// config.json in and out: VisitFields is the one list of its keys.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "core/dtype.h"
#include "io/file.h"
#include "model/config.h"

namespace fathom::model {
namespace {

using nlohmann::json;

constexpr int64_t kMaxConfigBytes = 16 << 20;
constexpr int64_t kMaxDim = 1 << 20, kMaxHeads = 1 << 14, kMaxHeadDim = 1 << 14, kMaxLayers = 1 << 14,
                  kMaxExperts = 1 << 16, kMaxVocab = 1 << 26, kMaxPositions = int64_t{1} << 32;

// When a key must be there. kGroups: where experts are chosen by groups.
enum class Need { kAlways, kMoe, kGroups, kOptional };

struct IntRange {
  int64_t min, max;
};
struct RealRange {
  double min, max;
};

// Calls v(key, field, range or list of choices, need) for every key that is a field of ModelConfig, those on which
// others' need depends first.
template <class Config, class Visitor>
void VisitFields(Config& c, Visitor&& v) {
  v("n_routed_experts", c.n_routed_experts, IntRange{0, kMaxExperts}, Need::kAlways);
  v("topk_method", c.topk_method, Need::kOptional);
  v("scoring_func", c.scoring_func, Need::kOptional);
  v("vocab_size", c.vocab_size, IntRange{1, kMaxVocab}, Need::kAlways);
  v("hidden_size", c.hidden_size, IntRange{1, kMaxDim}, Need::kAlways);
  v("intermediate_size", c.intermediate_size, IntRange{1, kMaxDim}, Need::kAlways);
  v("num_hidden_layers", c.num_hidden_layers, IntRange{1, kMaxLayers}, Need::kAlways);
  v("num_nextn_predict_layers", c.num_nextn_predict_layers, IntRange{0, 64}, Need::kOptional);
  v("num_attention_heads", c.num_attention_heads, IntRange{1, kMaxHeads}, Need::kAlways);
  v("q_lora_rank", c.q_lora_rank, IntRange{1, kMaxDim}, Need::kAlways);
  v("kv_lora_rank", c.kv_lora_rank, IntRange{1, kMaxDim}, Need::kAlways);
  v("qk_nope_head_dim", c.qk_nope_head_dim, IntRange{1, kMaxHeadDim}, Need::kAlways);
  v("qk_rope_head_dim", c.qk_rope_head_dim, IntRange{2, kMaxHeadDim}, Need::kAlways);
  v("v_head_dim", c.v_head_dim, IntRange{1, kMaxHeadDim}, Need::kAlways);
  v("moe_intermediate_size", c.moe_intermediate_size, IntRange{1, kMaxDim}, Need::kMoe);
  v("n_shared_experts", c.n_shared_experts, IntRange{0, 256}, Need::kMoe);
  v("num_experts_per_tok", c.num_experts_per_tok, IntRange{1, kMaxExperts}, Need::kMoe);
  v("first_k_dense_replace", c.first_k_dense_replace, IntRange{0, kMaxLayers}, Need::kMoe);
  v("moe_layer_freq", c.moe_layer_freq, IntRange{1, kMaxLayers}, Need::kOptional);
  v("n_group", c.n_group, IntRange{1, kMaxExperts}, Need::kGroups);
  v("topk_group", c.topk_group, IntRange{1, kMaxExperts}, Need::kGroups);
  v("norm_topk_prob", c.norm_topk_prob, Need::kOptional);
  v("routed_scaling_factor", c.routed_scaling_factor, RealRange{0, 1e6}, Need::kMoe);
  v("rms_norm_eps", c.rms_norm_eps, RealRange{0, 1}, Need::kAlways);
  v("rope_theta", c.rope_theta, RealRange{1.0001, 1e15}, Need::kOptional);
  v("max_position_embeddings", c.max_position_embeddings, IntRange{1, kMaxPositions}, Need::kAlways);
  v("initializer_range", c.initializer_range, RealRange{0, 1e3}, Need::kOptional);
  v("torch_dtype", c.torch_dtype, Need::kOptional);
  v("bos_token_id", c.bos_token_id, IntRange{0, kMaxVocab}, Need::kOptional);
  v("eos_token_id", c.eos_token_id, IntRange{0, kMaxVocab}, Need::kOptional);
}

// Keys that say nothing about the computation.
constexpr std::array<std::string_view, 38> kIgnored = {"_name_or_path",
                                                       "architectures",
                                                       "attention_dropout",
                                                       "auto_map",
                                                       "aux_loss_alpha",
                                                       "chunk_size_feed_forward",
                                                       "cross_attention_hidden_size",
                                                       "do_sample",
                                                       "dtype",
                                                       "ep_size",
                                                       "finetuning_task",
                                                       "head_dim",
                                                       "id2label",
                                                       "is_decoder",
                                                       "is_encoder_decoder",
                                                       "label2id",
                                                       "max_length",
                                                       "min_length",
                                                       "output_attentions",
                                                       "output_hidden_states",
                                                       "pad_token_id",
                                                       "pretraining_tp",
                                                       "problem_type",
                                                       "pruned_heads",
                                                       "qk_head_dim",
                                                       "return_dict",
                                                       "seq_aux",
                                                       "temperature",
                                                       "top_k",
                                                       "top_p",
                                                       "torchscript",
                                                       "transformers_version",
                                                       "unsloth_version",
                                                       "use_bfloat16",
                                                       "use_cache",
                                                       "use_mla",
                                                       "moe_router_dtype",
                                                       "_attn_implementation_autoset"};

std::string Show(const json& value) {
  constexpr size_t kShown = 80;
  std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  return text.size() > kShown ? text.substr(0, kShown) + "..." : text;
}

std::string Show(IntRange r) { return fmt::format("a whole number from {} to {}", r.min, r.max); }
std::string Show(RealRange r) { return fmt::format("a number from {} to {}", r.min, r.max); }

// An object of the file, read key by key; remembers which keys it was asked for. Throws Error.
class Object {
 public:
  Object(const json& value, std::string prefix) : value_(value), prefix_(std::move(prefix)) {
    if (!value.is_object())
      throw Error(prefix_.empty() ? "the configuration" : prefix_.substr(0, prefix_.size() - 1), Show(value),
                  "a JSON object");
  }

  // Null if the key is absent or its value null.
  const json* Find(const std::string& key) {
    asked_.insert(key);
    const auto it = value_.find(key);
    return it == value_.end() || it->is_null() ? nullptr : &*it;
  }
  bool Has(const std::string& key) const { return value_.contains(key); }

  bool Read(const std::string& key, int64_t& out, IntRange range) {
    const json* v = Find(key);
    if (!v) return false;
    out = Int(key, *v, range);
    return true;
  }
  bool Read(const std::string& key, double& out, RealRange range) {
    const json* v = Find(key);
    if (!v) return false;
    if (!v->is_number()) Refuse(key, *v, Show(range));
    const double x = v->get<double>();
    if (!(x >= range.min && x <= range.max)) Refuse(key, *v, Show(range));
    out = x;
    return true;
  }
  bool Read(const std::string& key, bool& out) {
    const json* v = Find(key);
    if (!v) return false;
    if (!v->is_boolean()) Refuse(key, *v, "true or false");
    out = v->get<bool>();
    return true;
  }
  bool Read(const std::string& key, std::string& out) {
    const json* v = Find(key);
    if (!v) return false;
    if (!v->is_string()) Refuse(key, *v, "a string");
    out = v->get<std::string>();
    return true;
  }
  int64_t Int(const std::string& key, const json& v, IntRange range) {
    if (!v.is_number_integer()) Refuse(key, v, Show(range));
    const bool huge = v.is_number_unsigned() && v.get<uint64_t>() > static_cast<uint64_t>(INT64_MAX);
    if (huge || v.get<int64_t>() < range.min || v.get<int64_t>() > range.max) Refuse(key, v, Show(range));
    return v.get<int64_t>();
  }

  [[noreturn]] void Missing(const std::string& key, const std::string& expected, const std::string& hint = "") const {
    throw Error(prefix_ + key + " is missing", "", expected, hint);
  }
  [[noreturn]] void Refuse(const std::string& key, const json& got, const std::string& expected,
                           const std::string& hint = "") const {
    throw Error(prefix_ + key, Show(got), expected, hint);
  }
  void WarnOfTheRest(std::vector<std::string>& warnings) const {
    for (const auto& item : value_.items()) {
      if (asked_.count(item.key()) == 0)
        warnings.push_back(fmt::format("unknown key {}{} is ignored", prefix_, item.key().substr(0, 80)));
    }
  }

 private:
  const json& value_;
  std::string prefix_;
  std::set<std::string> asked_;
};

// Reads the fields over VisitFields.
class FieldReader {
 public:
  FieldReader(Object& object, ModelConfig& config) : object_(object), config_(config) {}

  template <class Range>
  void operator()(const char* key, int64_t& field, Range range, Need need) {
    const bool none = std::string_view(key) == "n_routed_experts" || std::string_view(key) == "n_shared_experts";
    if (none && object_.Has(key) && !object_.Find(key)) {  // null: none
      field = 0;
      return;
    }
    if (!object_.Read(key, field, range)) Require(key, need, Show(range));
  }
  void operator()(const char* key, double& field, RealRange range, Need need) {
    if (!object_.Read(key, field, range)) Require(key, need, Show(range));
  }
  void operator()(const char* key, bool& field, Need) { object_.Read(key, field); }
  void operator()(const char* key, std::string& field, Need) {
    if (std::string_view(key) != "torch_dtype") object_.Read(key, field);
  }
  void operator()(const char* key, std::optional<int64_t>& field, IntRange range, Need) {
    int64_t value = 0;
    field.reset();
    if (object_.Read(key, value, range)) {
      field = value;
    } else if (!object_.Has(key)) {
      object_.Missing(key, Show(range) + ", or null", "null stands for one q_proj");
    }
  }
  void operator()(const char* key, std::vector<int64_t>& field, IntRange range, Need) {
    constexpr size_t kMost = 1000;
    const json* v = object_.Find(key);
    if (!v) return;
    field.clear();
    if (!v->is_array()) {
      field.push_back(object_.Int(key, *v, range));
      return;
    }
    if (v->size() > kMost) object_.Refuse(key, *v, fmt::format("at most {} ids", kMost));
    for (const json& id : *v) field.push_back(object_.Int(key, id, range));
  }

 private:
  void Require(const char* key, Need need, const std::string& expected) {
    const bool moe = config_.n_routed_experts > 0;
    const bool needed = need == Need::kAlways || (need == Need::kMoe && moe) ||
                        (need == Need::kGroups && moe && config_.topk_method != "greedy");
    if (needed) object_.Missing(key, expected);
  }

  Object& object_;
  ModelConfig& config_;
};

// Parses text into a document; keys that are there twice are refused.
json ParseDocument(std::string_view text) {
  if (static_cast<int64_t>(text.size()) > kMaxConfigBytes)
    throw Error("the configuration is too large", io::HumanBytes(static_cast<int64_t>(text.size())),
                "at most " + io::HumanBytes(kMaxConfigBytes));
  std::vector<std::set<std::string>> open;
  const auto watch = [&](int, json::parse_event_t event, json& parsed) {
    constexpr size_t kMaxDepth = 64;
    if (event == json::parse_event_t::object_start || event == json::parse_event_t::array_start) {
      open.emplace_back();
      if (open.size() > kMaxDepth) throw Error("the configuration is nested too deeply");
    }
    if (event == json::parse_event_t::object_end || event == json::parse_event_t::array_end) open.pop_back();
    if (event == json::parse_event_t::key && !open.back().insert(parsed.get<std::string>()).second)
      throw Error("the key " + Show(parsed) + " is there twice", "", "each key once");
    return true;
  };
  try {
    return json::parse(text.begin(), text.end(), watch);
  } catch (const json::parse_error& e) {
    throw Error("the configuration is not valid JSON", fmt::format("a fault at byte {}", e.byte));
  } catch (const json::exception&) {
    throw Error("the configuration is not valid JSON", "a number out of range");
  }
}

// A dtype's name in any of the spellings ("torch.bfloat16" too).
std::string CanonicalDtype(Object& object, const std::string& key, const json& value) {
  std::string name = value.is_string() ? value.get<std::string>() : "";
  if (name.rfind("torch.", 0) == 0) name = name.substr(6);
  if (name != "bfloat16" && name != "float16" && name != "float32")
    object.Refuse(key, value, "\"bfloat16\", \"float16\" or \"float32\"");
  return name;
}

void ReadDtype(Object& object, ModelConfig& config) {
  const json* old = object.Find("torch_dtype");
  const json* current = object.Find("dtype");
  if (old) config.torch_dtype = CanonicalDtype(object, "torch_dtype", *old);
  if (!current) return;
  const std::string name = CanonicalDtype(object, "dtype", *current);
  if (old && name != config.torch_dtype)
    throw Error("dtype and torch_dtype contradict each other", name + " and " + config.torch_dtype, "one value");
  config.torch_dtype = name;
}

// rope_scaling, or rope_parameters with rope_theta inside.
void ReadRope(Object& top, ModelConfig& config, std::vector<std::string>& warnings) {
  const json* scaling = top.Find("rope_scaling");
  const json* parameters = top.Find("rope_parameters");
  if (scaling && parameters && *scaling != *parameters)
    throw Error("rope_scaling and rope_parameters contradict each other", Show(*scaling) + " and " + Show(*parameters),
                "one of them");
  const std::string key = parameters ? "rope_parameters" : "rope_scaling";
  const json* value = parameters ? parameters : scaling;
  if (!value) {
    if (!top.Has("rope_theta")) top.Missing("rope_theta", "a number", "or rope_parameters with rope_theta in it");
    return;
  }
  Object rope(*value, key + ".");
  double theta = 0;
  if (rope.Read("rope_theta", theta, RealRange{1.0001, 1e15})) {
    if (top.Find("rope_theta") && theta != config.rope_theta)
      throw Error(fmt::format("rope_theta and {}.rope_theta contradict each other", key),
                  fmt::format("{} and {}", config.rope_theta, theta), "one value");
    config.rope_theta = theta;
  } else if (!top.Has("rope_theta")) {
    top.Missing("rope_theta", "a number", "or " + key + ".rope_theta");
  }
  std::string type, type_old;
  const bool has = rope.Read("rope_type", type), has_old = rope.Read("type", type_old);
  if (has && has_old && type != type_old)
    throw Error(fmt::format("{0}.rope_type and {0}.type contradict each other", key), type + " and " + type_old,
                "one value");
  if (!has) type = type_old;
  if (!has && !has_old) rope.Missing("type", "\"yarn\"", "or rope_scaling: null for none");
  if (type != "yarn" && type != "default")
    throw Error(fmt::format("{}.{} is not built", key, has ? "rope_type" : "type"), type.substr(0, 80),
                "\"yarn\", or \"default\" for none");
  if (type == "yarn") {
    RopeScaling s;
    const RealRange positive{1e-6, 1e6};
    if (!rope.Read("factor", s.factor, RealRange{1, 1e6})) rope.Missing("factor", "a number from 1 on");
    if (!rope.Read("original_max_position_embeddings", s.original_max_position_embeddings, IntRange{1, kMaxPositions}))
      rope.Missing("original_max_position_embeddings", Show(IntRange{1, kMaxPositions}));
    rope.Read("beta_fast", s.beta_fast, positive);
    rope.Read("beta_slow", s.beta_slow, positive);
    rope.Read("mscale", s.mscale, RealRange{0, 1e3});
    rope.Read("mscale_all_dim", s.mscale_all_dim, RealRange{0, 1e3});
    if (s.beta_slow > s.beta_fast)
      throw Error(fmt::format("{0}.beta_slow is above {0}.beta_fast", key),
                  fmt::format("{} and {}", s.beta_slow, s.beta_fast), "beta_slow <= beta_fast");
    if (const json* v = rope.Find("attention_factor"))
      rope.Refuse("attention_factor", *v, "no such key", "not built: mscale and mscale_all_dim give the factor");
    if (const json* v = rope.Find("truncate"); v && *v != json(true))
      rope.Refuse("truncate", *v, "true", "the other form of YaRN's ramp is not built");
    config.rope_scaling = s;
  } else {
    for (const char* unused : {"factor", "original_max_position_embeddings", "beta_fast", "beta_slow", "mscale",
                               "mscale_all_dim", "attention_factor", "truncate"})
      rope.Find(unused);
  }
  if (const json* v = rope.Find("partial_rotary_factor"); v && *v != json(1) && *v != json(1.0))
    rope.Refuse("partial_rotary_factor", *v, "1", "not built");
  rope.WarnOfTheRest(warnings);
}

void ReadQuantization(Object& top, ModelConfig& config, std::vector<std::string>& warnings) {
  const json* value = top.Find("quantization_config");
  if (!value) return;
  Object q(*value, "quantization_config.");
  const auto only = [&](const char* key, const json& expected, bool required) {
    const json* v = q.Find(key);
    if (!v && required) q.Missing(key, expected.dump());
    if (v && *v != expected) q.Refuse(key, *v, expected.dump(), "other quantised forms are not built");
  };
  only("quant_method", "fp8", true);
  only("fmt", "e4m3", false);
  only("weight_block_size", json::array({kFp8Block, kFp8Block}), true);
  only("activation_scheme", "dynamic", false);
  config.quantization_config.emplace();
  if (const json* v = q.Find("scale_fmt")) {
    if (*v != json("ue8m0") && *v != json("float")) q.Refuse("scale_fmt", *v, "\"ue8m0\", \"float\" or no such key");
    config.quantization_config->ue8m0 = *v == json("ue8m0");
  }
  for (const char* known : {"modules_to_not_convert", "ignored_layers", "dequantize"}) q.Find(known);
  q.WarnOfTheRest(warnings);
}

// Values that change the computation in ways that are not built.
void RefuseWhatIsNotBuilt(Object& top, const ModelConfig& config) {
  const auto only = [&](const char* key, const json& expected, const char* hint) {
    if (const json* v = top.Find(key); v && *v != expected) top.Refuse(key, *v, expected.dump(), hint);
  };
  only("attention_bias", false, "biases of the attention's projections are not built");
  only("mlp_bias", false, "biases of the feed-forward projections are not built");
  only("hidden_act", "silu", "other activations are not built");
  only("tie_word_embeddings", false, "a head tied to the embedding is not built");
  only("rope_interleave", true, "the rotation of split halves is not built; published weights have interleaved pairs");
  only("num_key_value_heads", config.num_attention_heads, "multi-head latent attention has as many key as query heads");
  only("sliding_window", nullptr, "windows of attention are not built");
}

// What the model type fixes where the file says nothing, and what its own code refuses.
void ApplyModelType(Object& top, ModelConfig& config) {
  std::string type;
  if (!top.Read("model_type", type)) top.Missing("model_type", "\"deepseek_v3\" or \"deepseek_v2\"");
  if (type != "deepseek_v3" && type != "deepseek_v2")
    throw Error("model_type is not built", type.substr(0, 80), "\"deepseek_v3\" or \"deepseek_v2\"");
  config.model_type = type;
  if (type == "deepseek_v3") return;
  config.topk_method = "greedy";
  config.scoring_func = "softmax";
  config.norm_topk_prob = false;
}

void CheckModelType(const ModelConfig& config) {
  if (config.n_routed_experts == 0) return;
  const bool v3 = config.model_type == "deepseek_v3";
  if (v3 != (config.topk_method == "noaux_tc"))
    throw Error("topk_method does not belong to model_type " + config.model_type, config.topk_method.substr(0, 80),
                v3 ? "\"noaux_tc\"" : "\"greedy\" or \"group_limited_greedy\"");
  if (v3 != (config.scoring_func == "sigmoid"))
    throw Error("scoring_func does not belong to model_type " + config.model_type, config.scoring_func.substr(0, 80),
                v3 ? "\"sigmoid\"" : "\"softmax\"");
  // The published code of V2 scales only what it does not normalise, transformers' never normalises.
  if (!v3 && config.norm_topk_prob && config.routed_scaling_factor != 1.0)
    throw Error("norm_topk_prob and routed_scaling_factor of deepseek_v2 are read differently by its implementations",
                fmt::format("true and {}", config.routed_scaling_factor),
                "norm_topk_prob: false, or routed_scaling_factor: 1");
}

template <class Parse>
Result<ParsedConfig> Catching(Parse&& parse) {
  try {
    return parse();
  } catch (const Error& e) {
    return e;
  }
}

ParsedConfig ParseDemo(const json& document) {
  Object top(document, "");
  ParsedConfig out;
  ModelConfig& c = out.config;
  // ModelArgs of the demo's model.py: what a file leaves out has these values.
  int64_t max_seq_len = 4096 * 4, original_seq_len = 4096, q_lora_rank = 0, batch = 0;
  std::string dtype = "bf16", scale_fmt, score_func = "softmax";
  RopeScaling rope{.factor = 40, .beta_fast = 32, .beta_slow = 1, .mscale = 1, .mscale_all_dim = 1};
  double mscale = 1.0;
  c.vocab_size = 102400;
  c.hidden_size = 2048;
  c.intermediate_size = 10944;
  c.moe_intermediate_size = 1408;
  c.num_hidden_layers = 27;
  c.first_k_dense_replace = 1;
  c.num_attention_heads = 16;
  c.n_routed_experts = 64;
  c.n_shared_experts = 2;
  c.num_experts_per_tok = 6;
  c.kv_lora_rank = 512;
  c.qk_nope_head_dim = 128;
  c.qk_rope_head_dim = 64;
  c.v_head_dim = 128;
  const IntRange dim{1, kMaxDim}, layers{1, kMaxLayers}, experts{1, kMaxExperts}, head_dim{1, kMaxHeadDim};
  top.Read("max_batch_size", batch, IntRange{1, kMaxDim});
  top.Read("max_seq_len", max_seq_len, IntRange{1, kMaxPositions});
  top.Read("dtype", dtype);
  top.Read("scale_fmt", scale_fmt);
  top.Read("vocab_size", c.vocab_size, IntRange{1, kMaxVocab});
  top.Read("dim", c.hidden_size, dim);
  top.Read("inter_dim", c.intermediate_size, dim);
  top.Read("moe_inter_dim", c.moe_intermediate_size, dim);
  top.Read("n_layers", c.num_hidden_layers, layers);
  top.Read("n_dense_layers", c.first_k_dense_replace, IntRange{0, kMaxLayers});
  top.Read("n_heads", c.num_attention_heads, IntRange{1, kMaxHeads});
  top.Read("n_routed_experts", c.n_routed_experts, experts);
  top.Read("n_shared_experts", c.n_shared_experts, IntRange{1, 256});
  top.Read("n_activated_experts", c.num_experts_per_tok, experts);
  top.Read("n_expert_groups", c.n_group, experts);
  top.Read("n_limited_groups", c.topk_group, experts);
  top.Read("score_func", score_func);
  top.Read("route_scale", c.routed_scaling_factor, RealRange{0, 1e6});
  top.Read("q_lora_rank", q_lora_rank, IntRange{0, kMaxDim});
  top.Read("kv_lora_rank", c.kv_lora_rank, dim);
  top.Read("qk_nope_head_dim", c.qk_nope_head_dim, head_dim);
  top.Read("qk_rope_head_dim", c.qk_rope_head_dim, IntRange{2, kMaxHeadDim});
  top.Read("v_head_dim", c.v_head_dim, head_dim);
  top.Read("original_seq_len", original_seq_len, IntRange{1, kMaxPositions});
  top.Read("rope_theta", c.rope_theta, RealRange{1.0001, 1e15});
  top.Read("rope_factor", rope.factor, RealRange{1, 1e6});
  top.Read("beta_fast", rope.beta_fast, RealRange{1e-6, 1e6});
  top.Read("beta_slow", rope.beta_slow, RealRange{1e-6, 1e6});
  top.Read("mscale", mscale, RealRange{0, 1e3});
  if (dtype != "bf16" && dtype != "fp8") throw Error("dtype", dtype.substr(0, 80), "\"bf16\" or \"fp8\"");
  if (!scale_fmt.empty() && scale_fmt != "ue8m0")
    throw Error("scale_fmt", scale_fmt.substr(0, 80), "\"ue8m0\" or null");
  if (score_func != "softmax" && score_func != "sigmoid")
    throw Error("score_func", score_func.substr(0, 80), "\"softmax\" or \"sigmoid\"");
  if (q_lora_rank > 0) c.q_lora_rank = q_lora_rank;
  const bool sigmoid = score_func == "sigmoid";
  c.model_type = sigmoid ? "deepseek_v3" : "deepseek_v2";
  c.scoring_func = score_func;
  c.topk_method = sigmoid ? "noaux_tc" : c.n_group > 1 ? "group_limited_greedy" : "greedy";
  c.norm_topk_prob = sigmoid;
  c.rms_norm_eps = 1e-6;
  c.max_position_embeddings = max_seq_len;
  // One mscale, applied to the scores only, and YaRN only beyond the original length.
  rope.mscale = rope.mscale_all_dim = mscale;
  rope.original_max_position_embeddings = original_seq_len;
  if (max_seq_len > original_seq_len) c.rope_scaling = rope;
  if (dtype == "fp8") c.quantization_config = QuantizationConfig{.ue8m0 = scale_fmt == "ue8m0"};
  Validate(c);
  top.WarnOfTheRest(out.warnings);
  return out;
}

}  // namespace

Result<ParsedConfig> ParseConfig(std::string_view text) {
  return Catching([&]() -> ParsedConfig {
    const json document = ParseDocument(text);
    Object top(document, "");
    ParsedConfig out;
    ApplyModelType(top, out.config);
    VisitFields(out.config, FieldReader(top, out.config));
    ReadDtype(top, out.config);
    ReadRope(top, out.config, out.warnings);
    ReadQuantization(top, out.config, out.warnings);
    RefuseWhatIsNotBuilt(top, out.config);
    CheckModelType(out.config);
    Validate(out.config);
    for (std::string_view key : kIgnored) top.Find(std::string(key));
    top.WarnOfTheRest(out.warnings);
    return out;
  });
}

Result<ParsedConfig> ParseDemoConfig(std::string_view text) {
  return Catching([&] { return ParseDemo(ParseDocument(text)); });
}

ParsedConfig ReadConfigFile(const std::string& path) {
  const std::string text = io::ReadFile(path, kMaxConfigBytes).Value();
  try {
    const json document = ParseDocument(text);
    const bool demo = document.is_object() && !document.contains("model_type") && document.contains("dim") &&
                      document.contains("n_layers");
    return (demo ? ParseDemoConfig(text) : ParseConfig(text)).Value();
  } catch (const Error& e) {
    throw Error(path + ": " + e.summary(), e.got(), e.expected(), e.hint());
  }
}

std::string ToJson(const ModelConfig& config) {
  json out;
  const bool v3 = config.model_type == "deepseek_v3";
  out["architectures"] = {v3 ? "DeepseekV3ForCausalLM" : "DeepseekV2ForCausalLM"};
  out["model_type"] = config.model_type;
  out["attention_bias"] = false;
  out["attention_dropout"] = 0.0;
  out["hidden_act"] = "silu";
  out["num_key_value_heads"] = config.num_attention_heads;
  out["tie_word_embeddings"] = false;
  out["use_cache"] = true;
  VisitFields(config, [&](const char* key, const auto& field, auto&&...) {
    using Field = std::decay_t<decltype(field)>;
    if constexpr (std::is_same_v<Field, std::optional<int64_t>>) {
      out[key] = field ? json(*field) : json();
    } else if constexpr (std::is_same_v<Field, std::vector<int64_t>>) {
      out[key] = field.size() == 1 ? json(field[0]) : json(field);
    } else {
      out[key] = field;
    }
  });
  out["rope_scaling"] = nullptr;
  if (config.rope_scaling) {
    const RopeScaling& s = *config.rope_scaling;
    out["rope_scaling"] = {{"type", "yarn"},
                           {"factor", s.factor},
                           {"beta_fast", s.beta_fast},
                           {"beta_slow", s.beta_slow},
                           {"mscale", s.mscale},
                           {"mscale_all_dim", s.mscale_all_dim},
                           {"original_max_position_embeddings", s.original_max_position_embeddings}};
  }
  if (config.quantization_config) {
    json& q = out["quantization_config"];
    q = {{"quant_method", "fp8"},
         {"fmt", "e4m3"},
         {"activation_scheme", "dynamic"},
         {"weight_block_size", {kFp8Block, kFp8Block}}};
    if (config.quantization_config->ue8m0) q["scale_fmt"] = "ue8m0";
  }
  return out.dump(2) + "\n";
}

}  // namespace fathom::model
