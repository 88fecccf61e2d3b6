// A file of places of one size for blocks of one size. Which are taken is the index's knowledge; the file has nothing
// but the blocks' bytes. Take, Give and Claim are for one thread at a time; Read and Write for any.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace fathom::cache {

class SlotFile {
 public:
  static std::string Name(int64_t block_bytes);  // blocks-N
  // Of a name as above; 0: it is none.
  static int64_t BlockBytes(const std::string& name);
  // What a block takes on the disk: whole pages.
  static int64_t SlotBytes(int64_t block_bytes);
  // errno in `error` on failure.
  static std::unique_ptr<SlotFile> Open(const std::string& directory, int64_t block_bytes, bool make, int* error);
  ~SlotFile();
  SlotFile(const SlotFile&) = delete;
  SlotFile& operator=(const SlotFile&) = delete;

  // Marks a place as taken, of a file that is opened again; false if there is no such place, or it is taken.
  bool Claim(int64_t offset);
  // Ends claiming: what was not claimed gives its space back.
  void Trim();

  bool has_spare() const { return !spare_.empty(); }  // Take() lets the file not grow
  int64_t Take();
  // Its space stays with the file, for the next Take.
  void Give(int64_t offset);
  // Gives space of places that nobody has back to the system, where it can be.
  void ReleaseSpare();

  // errno, 0: done.
  int Write(int64_t offset, std::span<const std::byte> bytes) const;
  int Read(int64_t offset, std::span<std::byte> bytes) const;

  int64_t slot_bytes() const { return slot_; }
  int64_t taken() const { return taken_; }
  // On the disk.
  int64_t bytes() const { return (taken_ + static_cast<int64_t>(spare_.size())) * slot_; }

 private:
  SlotFile(int fd, int64_t block_bytes, int64_t slots);
  bool Punch(int64_t offset) const;

  int fd_;
  int64_t block_, slot_;
  int64_t taken_ = 0;
  std::vector<bool> claimed_;   // places up to the file's end
  std::vector<int64_t> spare_;  // offsets that have space
  std::vector<int64_t> holes_;  // and that have none
};

}  // namespace fathom::cache
