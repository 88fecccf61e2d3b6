// Who may ask, and how much. A key is known by its SHA-256, so that a file of keys need not hold the keys themselves
// and a look-up takes no time that tells where a wrong one differs.
//
// ApiKeys is a handle: its copies share one set, which Set replaces while requests are running. The account of a key
// that stays keeps what it has counted; one that is taken away ends when its last request does.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "io/digest.h"
#include "net/http.h"

namespace fathom::server {

bool DigestFromHex(std::string_view hex, io::Digest* out);

struct KeyLimits {  // 0: none
  int64_t requests_per_minute = 0, tokens_per_minute = 0, concurrent = 0;
};

struct KeyEntry {
  std::string name;  // in reports; unique
  io::Digest digest{};
  KeyLimits limits;
  bool admin = false;  // may use /admin
};
KeyEntry KeyOf(std::string_view key, std::string name, bool admin = false);

// What one key has used lately. Requests and tokens are buckets of a minute's worth that fill evenly; tokens are taken
// when an answer is complete, so a bucket can go below nothing, and then the key waits until it is filled again. Times
// are those of a clock that nobody sets. Thread-safe.
class KeyAccount {
 public:
  using Time = std::chrono::steady_clock::time_point;
  KeyAccount(KeyEntry entry, Time now);

  const std::string& name() const { return name_; }
  bool admin() const { return admin_; }
  void SetEntry(const KeyEntry& entry, Time now);  // of the same key
  // Takes a request; throws ApiError 429 that says which limit was met and when to come again. Finish ends it.
  void Admit(Time now = std::chrono::steady_clock::now());
  void Finish(int64_t tokens, Time now = std::chrono::steady_clock::now());
  // x-ratelimit-limit-requests, -remaining-requests, -reset-requests and the same of tokens, where there are limits.
  void AppendHeaders(net::Headers& headers, Time now = std::chrono::steady_clock::now());

  struct State {
    std::string name;
    KeyLimits limits;
    int64_t running = 0, requests_left = 0, tokens_left = 0, refused = 0;
  };
  State Look(Time now = std::chrono::steady_clock::now());

 private:
  struct Bucket {
    int64_t size = 0;  // a minute's worth; 0: no limit
    double level = 0;
    Time filled;
    void Fill(Time now);
    void Resize(int64_t size, Time now);
    double SecondsTo(double wanted) const;  // from `filled`
  };

  const std::string name_;
  bool admin_ = false;
  std::mutex mutex_;
  KeyLimits limits_;
  Bucket requests_, tokens_;
  int64_t running_ = 0, refused_ = 0;
};

class ApiKeys {
 public:
  // Named api-key-1, api-key-2, ...
  explicit ApiKeys(const std::vector<std::string>& keys);
  // Throws nothing; entries of one digest: the first counts.
  void Set(const std::vector<KeyEntry>& entries) const;

  bool required() const;
  bool has_admin() const;
  // The account of "Authorization: Bearer KEY" or "x-api-key: KEY" (as Anthropic's clients send it), nullptr if it is
  // none. Where no key is required, that of everybody, "anonymous".
  std::shared_ptr<KeyAccount> Find(const net::Headers& headers) const;
  bool Allows(const net::Headers& headers) const { return Find(headers) != nullptr; }
  bool Allows(std::string_view authorization) const { return Allows({{"Authorization", std::string(authorization)}}); }
  std::vector<KeyAccount::State> Look() const;  // by name; with everybody's, where no key is required

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

// "1m30s", "250ms": how OpenAI's API writes the time until a limit is fresh again.
std::string DurationText(double seconds);

}  // namespace fathom::server
