#include "server/generation_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <mutex>
#include <random>
#include <string_view>

namespace fathom::server {
namespace {

constexpr size_t kMaxStopIds = 256;
constexpr size_t kMaxBiases = 4096;

std::vector<std::pair<int32_t, float>> ReadLogitBias(const Fields& f, int64_t vocab) {
  std::vector<std::pair<int32_t, float>> out;
  const Json* biases = f.Object("logit_bias");
  if (!biases) return out;
  if (biases->size() > kMaxBiases) {
    f.Fail("logit_bias", fmt::format("has {} tokens: at most {}", biases->size(), kMaxBiases));
  }
  const Fields values(*biases, f.Name("logit_bias"));
  for (const auto& [key, value] : biases->items()) {
    int64_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0 || id >= vocab) {
      values.Fail(key.substr(0, 100), fmt::format("is no token of this model, whose ids are 0 to {}", vocab - 1));
    }
    const std::optional<double> bias = values.Number(key, -100, 100);
    if (bias) out.emplace_back(static_cast<int32_t>(id), static_cast<float>(*bias));
  }
  return out;
}

void ReadSampling(const Fields& f, const ServedModel& model, GenerationFields& g) {
  engine::SamplingParams& s = g.request.sampling;
  constexpr double kLeast = 1e-6, kMost = 1e6;
  const std::optional<double> temperature = f.Number("temperature", 0, 2);
  s.temperature = model.deepseek_temperature ? FromDeepSeekTemperature(temperature.value_or(1))
                                             : temperature.value_or(s.temperature);
  s.top_p = f.Number("top_p", 0, 1).value_or(s.top_p);
  if (s.top_p == 0) s.top_p = kLeast;  // the likeliest alone, as elsewhere
  if (const auto k = f.Int("top_k", -1, INT32_MAX)) s.top_k = std::max<int64_t>(*k, 0);  // -1 is off, as in vLLM
  s.min_p = f.Number("min_p", 0, 1).value_or(s.min_p);
  s.min_p = std::min(s.min_p, 1 - kLeast);
  s.repetition_penalty = f.Number("repetition_penalty", kLeast, kMost).value_or(s.repetition_penalty);
  s.presence_penalty = f.Number("presence_penalty", -2, 2).value_or(s.presence_penalty);
  s.frequency_penalty = f.Number("frequency_penalty", -2, 2).value_or(s.frequency_penalty);
  s.logit_bias = ReadLogitBias(f, model.vocab_size);
  const std::optional<int64_t> seed = f.Int("seed", INT64_MIN, INT64_MAX);
  g.seeded = seed.has_value();
  s.seed = seed ? static_cast<uint64_t>(*seed) : RandomU64();
}

// FNV-1a.
uint64_t Hash(std::string_view text) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return hash;
}

// Of vLLM's cache_salt and DeepSeek's user_id: each sees only what it has cached itself.
uint64_t ReadScope(const Fields& f) {
  constexpr size_t kMaxUser = 512;
  const std::string salt = f.String("cache_salt").value_or(""), user = f.String("user_id").value_or("");
  const bool named = std::all_of(user.begin(), user.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  });
  if (!named || user.size() > kMaxUser) f.Fail("user_id", "must be at most 512 letters, digits, _ and -");
  if (salt.empty() && user.empty()) return 0;
  return Hash(fmt::format("{}\n{}", user, salt)) | 1;
}

}  // namespace

std::vector<std::string> ReadStops(const Fields& f, std::string_view key) {
  const Json* stop = f.Find(key);
  if (!stop) return {};
  std::vector<std::string> out;
  const auto add = [&](const Json& v, const std::string& name) {
    if (!v.is_string()) throw BadField(name, fmt::format("{} must be a string, not {}", name, KindOf(v)));
    const std::string& s = v.get_ref<const std::string&>();
    if (s.empty()) throw BadField(name, fmt::format("{} must not be empty", name));
    if (s.size() > kMaxStopBytes)
      throw BadField(name, fmt::format("{} has {} bytes: at most {}", name, s.size(), kMaxStopBytes));
    out.push_back(s);
  };
  if (!stop->is_array()) {
    if (!stop->is_string()) f.Fail(key, fmt::format("must be a string or a list of strings, not {}", KindOf(*stop)));
    add(*stop, f.Name(key));
    return out;
  }
  if (stop->size() > kMaxStops) f.Fail(key, fmt::format("has {} strings: at most {}", stop->size(), kMaxStops));
  for (size_t i = 0; i < stop->size(); ++i) add((*stop)[i], fmt::format("{}[{}]", f.Name(key), i));
  return out;
}

double FromDeepSeekTemperature(double api) { return api <= 1 ? 0.3 * api : api - 0.7; }

uint64_t RandomU64() {
  static std::mutex mutex;
  static std::mt19937_64 random{(uint64_t{std::random_device{}()} << 32) ^ std::random_device{}()};
  const std::scoped_lock lock(mutex);
  return random();
}

std::string RandomId(std::string_view prefix) {
  return fmt::format("{}{:016x}{:016x}", prefix, RandomU64(), RandomU64());
}

void Refuse(const std::string& name, const std::string& why) {
  throw BadField(name, fmt::format("{} {}", name, why), "unsupported_parameter");
}

void RefuseUnsupported(const Fields& f, bool tools) {
  // Refused whatever they hold, but for null, false, 0, "", [] and {}: what says that nothing is wanted.
  static constexpr const char* kRefused[] = {"tools",
                                             "functions",
                                             "audio",
                                             "use_beam_search",
                                             "min_tokens",
                                             "bad_words",
                                             "chat_template",
                                             "truncate_prompt_tokens",
                                             "prompt_embeds",
                                             "allowed_token_ids",
                                             "documents",
                                             "logits_processors",
                                             "prompt_logprobs",
                                             "continue_final_message",
                                             "include_stop_str_in_output"};
  for (const char* key : kRefused) {
    const Json* v = tools && std::string_view(key) == "tools" ? nullptr : f.Find(key);
    if (!v || ((v->is_structured() || v->is_string()) && v->empty())) continue;
    if (v->is_string() && v->get_ref<const std::string&>().empty()) continue;
    if (v->is_boolean() ? !v->get<bool>() : v->is_number() && *v == 0) continue;
    Refuse(f.Name(key));
  }
  for (const char* key : {"tool_choice", "function_call"}) {
    const Json* v = tools && std::string_view(key) == "tool_choice" ? nullptr : f.Find(key);
    if (v && *v != "none" && *v != "auto") Refuse(f.Name(key));
  }
  if (const Json* modalities = f.Array("modalities")) {
    for (const Json& m : *modalities) {
      if (m != "text") Refuse(f.Name("modalities"), "other than text is not supported by this server");
    }
  }
}

void CheckModel(const Fields& f, const ServedModel& model) {
  const std::optional<std::string> name = f.String("model");
  if (!name || name->empty() || model.Answers(*name)) return;
  throw NoSuchModel(*name, model.names);
}

GenerationFields ReadGeneration(const Fields& f, const ServedModel& model, bool tools) {
  GenerationFields g;
  CheckModel(f, model);
  RefuseUnsupported(f, tools);
  g.model = f.String("model").value_or("");
  if (g.model.empty()) g.model = model.names.front();
  g.stream = f.Bool("stream").value_or(false);
  if (const Json* options = f.Object("stream_options")) {
    if (!g.stream) f.Fail("stream_options", "is allowed only where stream is true");
    g.include_usage = Fields(*options, f.Name("stream_options")).Bool("include_usage").value_or(false);
  }
  g.n = f.Int("n", 1, kMaxChoices).value_or(1);
  if (const auto best_of = f.Int("best_of", 1, INT64_MAX); best_of && *best_of != g.n) {
    Refuse(f.Name("best_of"), "other than n is not supported by this server");
  }
  g.stop = ReadStops(f, "stop");
  g.structured = ReadStructured(f);
  g.skip_special = f.Bool("skip_special_tokens").value_or(true);
  g.request.sampling = model.defaults;
  ReadSampling(f, model, g);
  if (!f.Bool("ignore_eos").value_or(false)) g.request.eos_ids = model.eos_ids;
  const std::vector<int32_t> stop_ids = f.Tokens("stop_token_ids", model.vocab_size);
  if (stop_ids.size() > kMaxStopIds)
    f.Fail("stop_token_ids", fmt::format("has {} tokens: at most {}", stop_ids.size(), kMaxStopIds));
  g.request.eos_ids.insert(g.request.eos_ids.end(), stop_ids.begin(), stop_ids.end());
  g.request.priority = -static_cast<int>(f.Int("priority", -INT32_MAX, INT32_MAX).value_or(0));  // lower is sooner
  g.request.cache_scope = ReadScope(f);
  return g;
}

}  // namespace fathom::server
