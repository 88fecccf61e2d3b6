#include "cache/index_file.h"

#include <fmt/format.h>
#include <sqlite3.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

namespace fathom::cache {
namespace {

constexpr int kVersion = 1;

// Of all fields but itself.
uint64_t Seal(const BlockRow& row) {
  std::byte text[2 * sizeof(io::Digest) + 4 * sizeof(uint64_t)];
  std::byte* at = text;
  const auto add = [&](const void* p, size_t n) {
    std::memcpy(at, p, n);
    at += n;
  };
  add(row.key.bytes.data(), row.key.bytes.size());
  add(row.before.bytes.data(), row.before.bytes.size());
  for (const uint64_t v : {static_cast<uint64_t>(row.bytes), static_cast<uint64_t>(row.offset), row.checksum,
                           static_cast<uint64_t>(row.used)}) {
    add(&v, sizeof v);
  }
  return io::Checksum64(text);
}

bool IsUnreadable(int code) {
  const int kind = code & 0xff;
  return kind == SQLITE_CORRUPT || kind == SQLITE_NOTADB || kind == SQLITE_FORMAT || kind == SQLITE_SCHEMA ||
         kind == SQLITE_ERROR;  // also: no such table or column
}

bool ReadKey(sqlite3_stmt* s, int column, BlockKey& key) {
  if (sqlite3_column_type(s, column) != SQLITE_BLOB ||
      sqlite3_column_bytes(s, column) != static_cast<int>(key.bytes.size())) {
    return false;
  }
  std::memcpy(key.bytes.data(), sqlite3_column_blob(s, column), key.bytes.size());
  return true;
}

void BindKey(sqlite3_stmt* s, int place, const BlockKey& key) {
  sqlite3_bind_blob(s, place, key.bytes.data(), static_cast<int>(key.bytes.size()), SQLITE_STATIC);
}

std::vector<std::string> FilesOf(const std::string& path) {
  return {path, path + "-wal", path + "-journal", path + "-shm"};
}

}  // namespace

struct IndexFile::Handles {
  sqlite3* db = nullptr;
  sqlite3_stmt* put = nullptr;
  sqlite3_stmt* remove = nullptr;

  ~Handles() {
    sqlite3_finalize(put);
    sqlite3_finalize(remove);
    sqlite3_close(db);
  }
  int Run(const char* sql) const { return sqlite3_exec(db, sql, nullptr, nullptr, nullptr); }
  int Prepare(const char* sql, sqlite3_stmt** statement) const {
    return sqlite3_prepare_v2(db, sql, -1, statement, nullptr);
  }
  int Version() const {
    sqlite3_stmt* s = nullptr;
    int version = -1;
    if (Prepare("PRAGMA user_version", &s) == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW)
      version = sqlite3_column_int(s, 0);
    sqlite3_finalize(s);
    return version;
  }
};

IndexFile::IndexFile(std::unique_ptr<Handles> handles) : handles_(std::move(handles)) {}
IndexFile::~IndexFile() = default;

// `unreadable`: what lies there is of no use; otherwise the system refuses something.
Result<IndexFile::Opened> IndexFile::TryOpen(const std::string& path, bool* unreadable) {
  auto h = std::make_unique<Handles>();
  int code =
      sqlite3_open_v2(path.c_str(), &h->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, nullptr);
  const auto fail = [&](const char* doing) -> Result<Opened> {
    *unreadable = IsUnreadable(code);
    return Error(fmt::format("cannot {} {}", doing, path), h->db ? sqlite3_errmsg(h->db) : sqlite3_errstr(code));
  };
  if (code != SQLITE_OK) return fail("open");
  // One process has it (the store's lock), so there is no shared memory. A commit need not survive the power: what it
  // loses are blocks, and what lies under wrong rows then does not have their checksum.
  for (const char* setting : {"PRAGMA locking_mode=EXCLUSIVE", "PRAGMA journal_mode=WAL", "PRAGMA synchronous=NORMAL",
                              "PRAGMA trusted_schema=OFF", "PRAGMA cell_size_check=ON"}) {
    if ((code = h->Run(setting)) != SQLITE_OK) return fail("set up");
  }
  const int version = h->Version();
  if (version < 0) {
    code = sqlite3_errcode(h->db);
    return fail("read");
  }
  if (version == 0) {
    const std::string make = fmt::format(
        "BEGIN; CREATE TABLE blocks (key BLOB PRIMARY KEY, before BLOB, bytes INTEGER, offset INTEGER, "
        "checksum INTEGER, used INTEGER, seal INTEGER) WITHOUT ROWID; PRAGMA user_version={}; COMMIT",
        kVersion);
    if ((code = h->Run(make.c_str())) != SQLITE_OK) return fail("make");
  } else if (version != kVersion) {
    *unreadable = true;
    return Error("cannot use " + path, fmt::format("version {}", version), fmt::format("{}", kVersion));
  }
  Opened opened;
  sqlite3_stmt* all = nullptr;
  code = h->Prepare("SELECT key, before, bytes, offset, checksum, used, seal FROM blocks", &all);
  if (code == SQLITE_OK) {
    while ((code = sqlite3_step(all)) == SQLITE_ROW) {
      BlockRow row;
      const bool keys = ReadKey(all, 0, row.key) && ReadKey(all, 1, row.before);
      row.bytes = sqlite3_column_int64(all, 2);
      row.offset = sqlite3_column_int64(all, 3);
      row.checksum = static_cast<uint64_t>(sqlite3_column_int64(all, 4));
      row.used = sqlite3_column_int64(all, 5);
      if (keys && static_cast<uint64_t>(sqlite3_column_int64(all, 6)) == Seal(row)) {
        opened.rows.push_back(row);
      } else {
        ++opened.damaged;
      }
    }
  }
  sqlite3_finalize(all);
  if (code != SQLITE_DONE) return fail("read");
  // Rows that were damaged stand under keys that are not known: all that is not right goes.
  if (opened.damaged > 0) {
    if ((code = h->Run("DELETE FROM blocks")) != SQLITE_OK) return fail("clean");
  }
  if ((code = h->Prepare("INSERT OR REPLACE INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?)", &h->put)) != SQLITE_OK ||
      (code = h->Prepare("DELETE FROM blocks WHERE key = ?", &h->remove)) != SQLITE_OK) {
    return fail("read");
  }
  opened.file.reset(new IndexFile(std::move(h)));
  std::sort(opened.rows.begin(), opened.rows.end(),
            [](const BlockRow& a, const BlockRow& b) { return a.used != b.used ? a.used < b.used : a.key < b.key; });
  if (opened.damaged > 0) {
    std::vector<LruIndex::Change> sound;
    for (const BlockRow& row : opened.rows) sound.push_back({row.key, row});
    if (auto error = opened.file->Write(sound)) return *error;
  }
  return opened;
}

Result<IndexFile::Opened> IndexFile::Open(const std::string& path) {
  bool unreadable = false;
  Result<Opened> opened = TryOpen(path, &unreadable);
  if (opened.ok() || !unreadable) return opened;
  const std::string why = opened.error().what();
  for (const std::string& file : FilesOf(path)) {
    std::error_code ignored;
    std::filesystem::remove(file, ignored);
  }
  opened = TryOpen(path, &unreadable);
  if (opened.ok()) opened.Value().renewed = why;
  return opened;
}

std::optional<Error> IndexFile::Write(const std::vector<LruIndex::Change>& changes) {
  const Handles& h = *handles_;
  int code = h.Run("BEGIN IMMEDIATE");
  for (const LruIndex::Change& change : changes) {
    if (code != SQLITE_OK) break;
    sqlite3_stmt* s = change.row ? h.put : h.remove;
    BindKey(s, 1, change.key);
    if (change.row) {
      const BlockRow& row = *change.row;
      BindKey(s, 2, row.before);
      sqlite3_bind_int64(s, 3, row.bytes);
      sqlite3_bind_int64(s, 4, row.offset);
      sqlite3_bind_int64(s, 5, static_cast<int64_t>(row.checksum));
      sqlite3_bind_int64(s, 6, row.used);
      sqlite3_bind_int64(s, 7, static_cast<int64_t>(Seal(row)));
    }
    code = sqlite3_step(s);
    if (code == SQLITE_DONE) code = SQLITE_OK;
    sqlite3_reset(s);
  }
  if (code == SQLITE_OK) code = h.Run("COMMIT");
  if (code == SQLITE_OK) return std::nullopt;
  Error error("cannot write the index", sqlite3_errmsg(h.db));
  h.Run("ROLLBACK");
  return error;
}

}  // namespace fathom::cache
