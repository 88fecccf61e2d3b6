#include "io/safetensors_writer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <unordered_map>

namespace fathom::io {

void SortForAlignment(std::vector<TensorSpec>& tensors) {
  std::stable_sort(tensors.begin(), tensors.end(),
                   [](const TensorSpec& a, const TensorSpec& b) { return SizeOf(a.dtype) > SizeOf(b.dtype); });
}

std::string SafetensorsHead(const std::vector<TensorSpec>& tensors,
                            const std::map<std::string, std::string>& metadata) {
  std::string json = "{";
  const auto separate = [&] {
    if (json.size() > 1) json += ',';
  };
  if (!metadata.empty()) json += "\"__metadata__\":" + nlohmann::json(metadata).dump();
  int64_t at = 0;
  for (const TensorSpec& t : tensors) {
    separate();
    json += nlohmann::json(t.name).dump() + ":{\"dtype\":\"" + std::string(Name(t.dtype)) +
            "\",\"shape\":" + nlohmann::json(t.shape).dump() + ",\"data_offsets\":[" + std::to_string(at) + ',' +
            std::to_string(at + t.bytes()) + "]}";
    at += t.bytes();
  }
  json += '}';
  constexpr size_t kAlign = 64;
  json.append((kAlign - (8 + json.size()) % kAlign) % kAlign, ' ');
  std::string head(8, '\0');
  for (size_t i = 0; i < 8; ++i) head[i] = static_cast<char>(json.size() >> (8 * i) & 0xff);
  return head + json;
}

SafetensorsWriter::SafetensorsWriter(const std::string& path, const std::vector<TensorSpec>& tensors,
                                     const std::map<std::string, std::string>& metadata)
    : file_(path) {
  const std::string head = SafetensorsHead(tensors, metadata);
  next_ = static_cast<int64_t>(head.size());
  begins_.push_back(next_);
  for (const TensorSpec& t : tensors) begins_.push_back(begins_.back() + t.bytes());
  left_ = begins_.back() - next_;
  file_.Reserve(begins_.back());
  file_.WriteAt(0, head.data(), next_);
}

void SafetensorsWriter::Write(const void* data, int64_t bytes) {
  FATHOM_CHECK(bytes >= 0 && next_ + bytes <= begins_.back(), "more bytes than the header promises");
  file_.WriteAt(next_, data, bytes);
  next_ += bytes;
  left_ -= bytes;
}

void SafetensorsWriter::WriteAt(size_t tensor, int64_t offset, const void* data, int64_t bytes) {
  FATHOM_CHECK(tensor + 1 < begins_.size() && offset >= 0 && bytes >= 0 &&
                   begins_[tensor] + offset + bytes <= begins_[tensor + 1],
               "bytes outside the tensor");
  file_.WriteAt(begins_[tensor] + offset, data, bytes);
  left_ -= bytes;
}

void SafetensorsWriter::Commit() {
  FATHOM_CHECK(left_ == 0, "other bytes than the header promises");
  file_.Commit();
}

void WriteSafetensors(const std::string& path, const std::vector<std::pair<std::string, TensorView>>& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::vector<TensorSpec> specs;
  std::unordered_map<std::string, const TensorView*> views;
  for (const auto& [name, view] : tensors) {
    specs.push_back({name, view.dtype, view.shape});
    FATHOM_CHECK(views.emplace(name, &view).second, "a tensor's name twice");
  }
  SortForAlignment(specs);
  SafetensorsWriter writer(path, specs, metadata);
  for (const TensorSpec& s : specs) writer.Write(views[s.name]->data, s.bytes());
  writer.Commit();
}

}  // namespace fathom::io
