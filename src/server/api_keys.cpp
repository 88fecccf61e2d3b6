#include "server/api_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/hex.h"
#include "server/api_error.h"

namespace fathom::server {
namespace {

constexpr double kMinute = 60;

std::string_view WithoutBlanks(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

// The key of "Bearer KEY", nothing of other schemes.
std::string_view BearerKey(std::string_view authorization) {
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() < kScheme.size()) return {};
  for (size_t i = 0; i < kScheme.size(); ++i) {
    if ((authorization[i] | 0x20) != kScheme[i]) return {};
  }
  return WithoutBlanks(authorization.substr(kScheme.size()));
}

ApiError LimitMet(std::string what, double seconds) {
  ApiError e;
  e.status = 429;
  e.type = "rate_limit_error";
  e.code = "rate_limit_exceeded";
  e.message = "Rate limit reached: " + std::move(what);
  e.retry_after = static_cast<int>(std::clamp(std::ceil(seconds), 1.0, 3600.0));
  return e;
}

}  // namespace

bool DigestFromHex(std::string_view hex, io::Digest* out) {
  if (hex.size() != 2 * out->size()) return false;
  for (size_t i = 0; i < out->size(); ++i) {
    const int high = HexDigit(hex[2 * i]), low = HexDigit(hex[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    (*out)[i] = static_cast<uint8_t>(high * 16 + low);
  }
  return true;
}

KeyEntry KeyOf(std::string_view key, std::string name, bool admin) {
  return {.name = std::move(name), .digest = io::Sha256(key), .limits = {}, .admin = admin};
}

std::string DurationText(double seconds) {
  if (seconds < 1) return fmt::format("{}ms", static_cast<int64_t>(std::ceil(std::max(seconds, 0.0) * 1000)));
  const auto whole = static_cast<int64_t>(std::ceil(seconds));
  const int64_t minutes = whole / 60;
  return minutes > 0 ? fmt::format("{}m{}s", minutes, whole % 60) : fmt::format("{}s", whole);
}

void KeyAccount::Bucket::Fill(Time now) {
  const double passed = std::chrono::duration<double>(now - filled).count();
  filled = now;
  level = std::min(level + passed * static_cast<double>(size) / kMinute, static_cast<double>(size));
}

// What was used stays used.
void KeyAccount::Bucket::Resize(int64_t wanted, Time now) {
  Fill(now);
  level += static_cast<double>(wanted - size);
  size = wanted;
}

double KeyAccount::Bucket::SecondsTo(double wanted) const {
  return size == 0 ? 0 : std::max(wanted - level, 0.0) * kMinute / static_cast<double>(size);
}

KeyAccount::KeyAccount(KeyEntry entry, Time now) : name_(entry.name) {
  requests_.filled = tokens_.filled = now;
  SetEntry(entry, now);
}

void KeyAccount::SetEntry(const KeyEntry& entry, Time now) {
  const std::scoped_lock lock(mutex_);
  admin_ = entry.admin;
  limits_ = entry.limits;
  requests_.Resize(limits_.requests_per_minute, now);
  tokens_.Resize(limits_.tokens_per_minute, now);
}

void KeyAccount::Admit(Time now) {
  const std::scoped_lock lock(mutex_);
  requests_.Fill(now);
  tokens_.Fill(now);
  const auto refuse = [&](std::string what, double seconds) {
    ++refused_;
    throw LimitMet(std::move(what), seconds);
  };
  if (limits_.concurrent > 0 && running_ >= limits_.concurrent) {
    refuse(fmt::format("{} requests at once is this key's limit", limits_.concurrent), 1);
  }
  if (requests_.size > 0 && requests_.level < 1) {
    refuse(fmt::format("{} requests per minute is this key's limit", requests_.size), requests_.SecondsTo(1));
  }
  if (tokens_.size > 0 && tokens_.level < 1) {
    refuse(fmt::format("{} tokens per minute is this key's limit", tokens_.size), tokens_.SecondsTo(1));
  }
  if (requests_.size > 0) requests_.level -= 1;
  ++running_;
}

void KeyAccount::Finish(int64_t tokens, Time now) {
  const std::scoped_lock lock(mutex_);
  --running_;
  tokens_.Fill(now);
  if (tokens_.size > 0) tokens_.level -= static_cast<double>(tokens);
}

void KeyAccount::AppendHeaders(net::Headers& headers, Time now) {
  const std::scoped_lock lock(mutex_);
  const auto add = [&](Bucket& bucket, std::string_view what) {
    if (bucket.size == 0) return;
    bucket.Fill(now);
    const auto left = static_cast<int64_t>(std::max(bucket.level, 0.0));
    headers.emplace_back(fmt::format("x-ratelimit-limit-{}", what), std::to_string(bucket.size));
    headers.emplace_back(fmt::format("x-ratelimit-remaining-{}", what), std::to_string(left));
    headers.emplace_back(fmt::format("x-ratelimit-reset-{}", what),
                         DurationText(bucket.SecondsTo(static_cast<double>(bucket.size))));
  };
  add(requests_, "requests");
  add(tokens_, "tokens");
}

KeyAccount::State KeyAccount::Look(Time now) {
  const std::scoped_lock lock(mutex_);
  requests_.Fill(now);
  tokens_.Fill(now);
  return {.name = name_,
          .limits = limits_,
          .running = running_,
          .requests_left = static_cast<int64_t>(requests_.level),
          .tokens_left = static_cast<int64_t>(tokens_.level),
          .refused = refused_};
}

struct ApiKeys::Shared {
  std::mutex mutex;
  std::map<io::Digest, std::shared_ptr<KeyAccount>> accounts;
  bool required = false, has_admin = false;  // there is an account of one who is no admin, of one who is
  const std::shared_ptr<KeyAccount> everybody = std::make_shared<KeyAccount>(
      KeyEntry{.name = "anonymous", .digest = {}, .limits = {}}, std::chrono::steady_clock::now());
};

ApiKeys::ApiKeys(const std::vector<std::string>& keys) : shared_(std::make_shared<Shared>()) {
  std::vector<KeyEntry> entries;
  for (const std::string& key : keys) entries.push_back(KeyOf(key, fmt::format("api-key-{}", entries.size() + 1)));
  Set(entries);
}

void ApiKeys::Set(const std::vector<KeyEntry>& entries) const {
  const auto now = std::chrono::steady_clock::now();
  std::map<io::Digest, std::shared_ptr<KeyAccount>> accounts;
  const std::scoped_lock lock(shared_->mutex);
  for (const KeyEntry& entry : entries) {
    std::shared_ptr<KeyAccount>& account = accounts[entry.digest];
    if (account) continue;
    const auto old = shared_->accounts.find(entry.digest);
    if (old != shared_->accounts.end() && old->second->name() == entry.name) {
      account = old->second;
      account->SetEntry(entry, now);
    } else {
      account = std::make_shared<KeyAccount>(entry, now);
    }
  }
  const auto is_admin = [](const auto& a) { return a.second->admin(); };
  shared_->required = !std::all_of(accounts.begin(), accounts.end(), is_admin);
  shared_->has_admin = std::any_of(accounts.begin(), accounts.end(), is_admin);
  shared_->accounts.swap(accounts);
}

bool ApiKeys::required() const {
  const std::scoped_lock lock(shared_->mutex);
  return shared_->required;
}

bool ApiKeys::has_admin() const {
  const std::scoped_lock lock(shared_->mutex);
  return shared_->has_admin;
}

std::shared_ptr<KeyAccount> ApiKeys::Find(const net::Headers& headers) const {
  std::string_view key = BearerKey(net::Find(headers, "Authorization"));
  if (key.empty()) key = WithoutBlanks(net::Find(headers, "x-api-key"));
  const io::Digest digest = key.empty() ? io::Digest{} : io::Sha256(key);
  const std::scoped_lock lock(shared_->mutex);
  if (!key.empty()) {
    const auto it = shared_->accounts.find(digest);
    if (it != shared_->accounts.end()) return it->second;
  }
  return shared_->required ? nullptr : shared_->everybody;
}

std::vector<KeyAccount::State> ApiKeys::Look() const {
  std::vector<std::shared_ptr<KeyAccount>> accounts;
  {
    const std::scoped_lock lock(shared_->mutex);
    for (const auto& [digest, account] : shared_->accounts) accounts.push_back(account);
  }
  if (!required()) accounts.push_back(shared_->everybody);
  std::vector<KeyAccount::State> states;
  for (const auto& account : accounts) states.push_back(account->Look());
  std::sort(states.begin(), states.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return states;
}

}  // namespace fathom::server
