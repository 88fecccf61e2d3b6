// Test helpers: a scratch folder, and small checkpoints written into it and then damaged.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "checkpoint/init.h"
#include "io/file.h"
#include "io/safetensors.h"
#include "io/safetensors_writer.h"

namespace fathom::checkpoint {

inline constexpr char kTestGolden[] = FATHOM_SOURCE_DIR "/tests/golden/";
inline constexpr char kShared[] = FATHOM_SOURCE_DIR "/../shared/";
inline constexpr char kConfigs[] = FATHOM_SOURCE_DIR "/configs/models/";

class FolderTest : public ::testing::Test {
 protected:
  FolderTest()
      : folder_(std::filesystem::temp_directory_path() / ("fathom_checkpoint_test_" + std::to_string(::getpid()))) {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~FolderTest() override { std::filesystem::remove_all(folder_); }

  std::string Path(const std::string& name = "") const { return (folder_ / name).string(); }
  void Write(const std::string& name, const std::string& text) { io::WriteFileAtomically(Path(name), text); }

  std::filesystem::path folder_;
};

inline std::string ErrorOf(const auto& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

// A model of every kind of tensor, some thousand parameters.
inline model::ModelConfig TinyConfig() {
  model::ModelConfig c = model::ReadConfigFile(std::string(kConfigs) + "fathom-16m.json").config;
  c.vocab_size = 40;
  c.hidden_size = 136;
  c.intermediate_size = 24;
  c.moe_intermediate_size = 8;
  c.num_hidden_layers = 2;
  c.num_nextn_predict_layers = 1;
  c.num_attention_heads = 2;
  c.q_lora_rank = 12;
  c.kv_lora_rank = 16;
  c.qk_nope_head_dim = 8;
  c.qk_rope_head_dim = 4;
  c.v_head_dim = 6;
  c.n_routed_experts = 8;
  c.num_experts_per_tok = 2;
  c.n_group = 2;
  c.topk_group = 1;
  return c;
}

// Tensors of a safetensors file, to change and to write again.
struct EditableFile {
  struct Tensor {
    std::string name;
    DType dtype;
    Shape shape;
    std::vector<std::byte> bytes;
  };
  std::vector<Tensor> tensors;

  explicit EditableFile(const std::string& path) {
    const io::SafetensorsFile file = io::SafetensorsFile::Open(path).Value();
    for (const io::SafetensorsEntry& e : file.entries()) {
      const auto* data = static_cast<const std::byte*>(file.View(e).data);
      tensors.push_back({e.name, e.dtype, e.shape, {data, data + (e.end - e.begin)}});
    }
  }
  Tensor& Get(const std::string& name) {
    for (Tensor& t : tensors) {
      if (t.name == name) return t;
    }
    throw Error("the test names a tensor that is not there", name);
  }
  void Remove(const std::string& name) {
    Get(name);
    std::erase_if(tensors, [&](const Tensor& t) { return t.name == name; });
  }
  void Retype(const std::string& name, DType dtype, Shape shape) {
    Tensor& t = Get(name);
    t.dtype = dtype;
    t.shape = std::move(shape);
    t.bytes.assign(static_cast<size_t>(NumElements(t.shape) * SizeOf(dtype)), std::byte{0});
  }
  void Add(const std::string& name, DType dtype, Shape shape) {
    tensors.push_back({name, dtype, {}, {}});
    Retype(name, dtype, std::move(shape));
  }
  void Save(const std::string& path) const {
    std::vector<std::pair<std::string, TensorView>> views;
    for (const Tensor& t : tensors) views.push_back({t.name, {t.bytes.data(), t.dtype, t.shape}});
    io::WriteSafetensors(path, views);
  }
};

}  // namespace fathom::checkpoint
