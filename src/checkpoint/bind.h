// Joins the tensors that files hold with the places that a configuration has for them. Whatever does not fit goes to
// the audit by name.
#pragma once

#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "checkpoint/audit.h"
#include "io/safetensors.h"
#include "model/params.h"

namespace fathom::checkpoint {

// Where tensors come from, asked by their published (Hugging Face) names. Untrusted files lie behind it: types and
// shapes may be anything.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual bool Has(const std::string& name) const = 0;
  // The tensor's dtype and shape, and its bytes where they lie or in an owned copy. With `headers_only` no byte of data
  // is touched: what has to be copied has null data. What is wrong with its files goes to `audit`.
  virtual std::optional<TensorView> Take(const std::string& name, bool headers_only, Audit& audit) = 0;
  // The names, as the files have them, that nobody took.
  virtual std::vector<std::string> NotTaken() const = 0;
};

// Binds all parameters of `config`, whose num_nextn_predict_layers is lowered to the MTP layers that are there. After
// problems the views are incomplete: look at the audit.
model::ModelParams Bind(model::ModelConfig& config, TensorSource& source, bool headers_only, Audit& audit);

// "model.layers.3.mlp.gate.weight": 3; -1 for names outside the layers.
int64_t LayerOf(const std::string& name);

// Tensors of safetensors files by name, each of which may be taken; the common part of the sources.
class TensorTable {
 public:
  struct Item {
    const io::SafetensorsFile* file;
    const io::SafetensorsEntry* entry;
    bool taken = false;
  };
  // False if the name is there already.
  bool Add(const io::SafetensorsFile& file, const io::SafetensorsEntry& entry);
  Item* Find(const std::string& name);
  const Item* Find(const std::string& name) const;
  std::vector<std::string> NotTaken() const;  // sorted as the files have them

 private:
  std::unordered_map<std::string_view, size_t> index_;
  std::vector<Item> items_;
};

// A view of the item in its file, or an aligned copy of it in `owned` if it lies at an odd address.
TensorView ViewOrCopy(const TensorTable::Item& item, bool headers_only, std::vector<Buffer>& owned, Audit& audit);

}  // namespace fathom::checkpoint
