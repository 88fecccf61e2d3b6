// Writing safetensors files: the list of tensors first, then their bytes as a
// stream or in any order. The file appears under its name
// only when it is complete (AtomicFile).
#pragma once

#include <atomic>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor.h"
#include "io/file.h"

namespace fathom::io {

struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  int64_t bytes() const { return NumElements(shape) * SizeOf(dtype); }
};

// The largest elements first, else in the order given: since the format has no holes, this keeps every tensor at a
// multiple of its element size, whatever the shapes.
void SortForAlignment(std::vector<TensorSpec>& tensors);

// Header length and header of such a file, padded with spaces so that the data begins at a multiple of 64.
std::string SafetensorsHead(const std::vector<TensorSpec>& tensors,
                            const std::map<std::string, std::string>& metadata = {});

class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::string& path, const std::vector<TensorSpec>& tensors,
                    const std::map<std::string, std::string>& metadata = {});
  // The next bytes of the tensors' data, in the order of `tensors`; any partition of them.
  void Write(const void* data, int64_t bytes);
  // Bytes [offset, offset + bytes) of a tensor by its place in `tensors`. Threads may write at once.
  void WriteAt(size_t tensor, int64_t offset, const void* data, int64_t bytes);
  // All bytes must have been written, each once.
  void Commit();

 private:
  AtomicFile file_;
  std::vector<int64_t> begins_;  // of each tensor in the file, and the end of the last
  int64_t next_ = 0;             // where Write() goes on
  std::atomic<int64_t> left_{0};
};

// Tensors that are in memory, in one call; order by SortForAlignment.
void WriteSafetensors(const std::string& path, const std::vector<std::pair<std::string, TensorView>>& tensors,
                      const std::map<std::string, std::string>& metadata = {});

}  // namespace fathom::io
