#include "train/run_state_arrays.h"

#include <algorithm>

#include "train/run_state_json.h"

namespace fathom::train {

int64_t StateArrays::bytes() const {
  int64_t sum = 0;
  for (const io::TensorSpec& s : specs) sum += s.bytes();
  return sum;
}

std::vector<StateArrays> ArraysOf(const ParamStore& store) {
  std::vector<StateArrays> out = {
      {kMastersFile, {}, {}}, {kFirstMomentFile, {}, {}}, {kSecondMomentFile, {}, {}}, {kAveragesFile, {}, {}}};
  const DType moments = store.policy().moments;
  for (const StoredTensor& t : store.tensors()) {
    const auto add = [&](StateArrays& to, void* data, DType dtype) {
      if (!data) return;
      to.specs.push_back({t.name, dtype, t.shape});
      to.data.push_back(data);
    };
    add(out[0], t.master, DType::kF32);
    add(out[1], t.m, moments);
    add(out[2], t.v, moments);
    add(out[3], t.ema, DType::kF32);
  }
  std::erase_if(out, [](const StateArrays& a) { return a.specs.empty(); });
  return out;
}

std::vector<StatePiece> PiecesOf(const std::vector<StateArrays>& arrays) {
  std::vector<StatePiece> out;
  size_t longest = 0;
  for (const StateArrays& a : arrays) longest = std::max(longest, a.specs.size());
  for (size_t tensor = 0; tensor < longest; ++tensor) {
    for (size_t file = 0; file < arrays.size(); ++file) {
      if (tensor >= arrays[file].specs.size()) continue;
      const int64_t bytes = arrays[file].specs[tensor].bytes();
      for (int64_t begin = 0; begin < bytes; begin += kChecksumPiece)
        out.push_back({file, tensor, begin, std::min(kChecksumPiece, bytes - begin)});
    }
  }
  return out;
}

std::map<std::string, uint64_t> TensorChecksums(const StateArrays& arrays, size_t file,
                                                std::span<const StatePiece> pieces,
                                                std::span<const uint64_t> checksums) {
  std::vector<std::vector<uint64_t>> of_tensor(arrays.specs.size());
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (pieces[i].file == file) of_tensor[pieces[i].tensor].push_back(checksums[i]);
  }
  std::map<std::string, uint64_t> out;
  for (size_t t = 0; t < of_tensor.size(); ++t) out.emplace(arrays.specs[t].name, ChecksumOfPieces(of_tensor[t]));
  return out;
}

}  // namespace fathom::train
