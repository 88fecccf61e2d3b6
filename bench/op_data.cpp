#include "op_data.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "core/rng.h"

namespace fathom::bench {

Problem Parse(const std::string& op, const std::string& text, const std::string& example,
              std::map<std::string, int64_t> defaults) {
  const Error error("not a problem of " + op, text, "like " + example);
  Problem p{std::move(defaults), {}};
  const std::string_view all = text, sizes = all.substr(0, all.find(':'));
  for (size_t i = 0; i < sizes.size();) {
    const size_t begin = i;
    while (i < sizes.size() && sizes[i] >= 'a' && sizes[i] <= 'z') ++i;
    const std::string key(sizes.substr(begin, i - begin));
    int64_t value = 0;
    const auto [end, failed] = std::from_chars(sizes.data() + i, sizes.data() + sizes.size(), value);
    if (failed != std::errc() || value < 1 || !p.sizes.count(key)) throw error;
    i = static_cast<size_t>(end - sizes.data());
    p.sizes[key] = value;
  }
  for (const auto& [key, value] : p.sizes) {
    if (value == 0) throw error;  // a size without a default
  }
  for (size_t at = sizes.size(); at < all.size();) {
    const size_t next = std::min(all.find(':', at + 1), all.size());
    p.words.emplace_back(all.substr(at + 1, next - at - 1));
    at = next;
  }
  return p;
}

kernels::Compute ComputeOf(const std::string& op, const Problem& p) {
  if (p.words.empty() || p.words[0] == "bf16") return kernels::Compute::kBf16;
  if (p.words[0] == "f32") return kernels::Compute::kF32;
  throw Error("unknown arithmetic for " + op, p.words[0], "f32 or bf16");
}

DType CacheType(kernels::Compute compute) { return compute == kernels::Compute::kBf16 ? DType::kBF16 : DType::kF32; }

std::shared_ptr<Buffer> Random(int64_t count, DType dtype, float width) {
  constexpr int64_t kDrawn = 1 << 14;
  auto buffer = std::make_shared<Buffer>(count * SizeOf(dtype));
  const int64_t size = SizeOf(dtype), drawn = std::min(count, kDrawn);
  Rng rng(7);
  for (int64_t i = 0; i < drawn; ++i) {
    const float x = static_cast<float>(rng.NextNormal()) * width;
    const uint16_t b = F32ToBf16(x), h = F32ToF16(x);
    const uint8_t e = F32ToE4M3(x);
    const void* from = dtype == DType::kF32    ? static_cast<const void*>(&x)
                       : dtype == DType::kBF16 ? static_cast<const void*>(&b)
                       : dtype == DType::kF16  ? static_cast<const void*>(&h)
                                               : static_cast<const void*>(&e);
    std::memcpy(buffer->data() + i * size, from, static_cast<size_t>(size));
  }
  for (int64_t at = drawn; at < count; at += drawn) {
    std::memcpy(buffer->data() + at * size, buffer->data(), static_cast<size_t>(std::min(drawn, count - at) * size));
  }
  return buffer;
}

std::shared_ptr<Buffer> RandomF32(int64_t count) { return Random(count, DType::kF32, 1.0f); }

std::shared_ptr<Buffer> Ids(int64_t count, int64_t below) {
  auto ids = std::make_shared<Buffer>(count * 4);
  Rng rng(3);
  for (int64_t i = 0; i < count; ++i) ids->data<int32_t>()[i] = static_cast<int32_t>(rng.NextBelow(below));
  return ids;
}

int64_t CopiesOf(double bytes, double cold_bytes) {
  return std::clamp<int64_t>(static_cast<int64_t>(cold_bytes / std::max(bytes, 1.0)) + 1, 1, 1024);
}

std::shared_ptr<Caches> MakeCaches(int64_t count, int64_t rows, int64_t width, DType dtype, int64_t rope) {
  constexpr int64_t kBlock = 64;
  auto c = std::make_shared<Caches>();
  const kernels::LatentCache row{.block_tokens = kBlock, .dtype = dtype, .width = width, .rope = rope};
  const int64_t blocks = (rows + kBlock - 1) / kBlock, block_bytes = kBlock * row.row_bytes();
  c->data = Random(count * blocks * block_bytes / SizeOf(dtype), dtype, 1.0f);
  for (int64_t i = 0; dtype == DType::kF8E4M3 && i < count * blocks * kBlock; ++i) {
    std::byte* at = c->data->data() + i * row.row_bytes();
    std::fill(at + row.rope_at(), at + row.row_bytes(), std::byte{0x3f});  // bf16 0x3f3f, some 0.75
    for (int64_t s = row.scales_at(); s < row.rope_at(); s += 4) {
      constexpr float kScale = 1.0f;
      std::memcpy(at + s, &kScale, sizeof kScale);
    }
  }
  c->bytes_each = rows * row.row_bytes();
  for (int64_t i = 0; i < count * blocks; ++i) c->blocks.push_back(c->data->data() + i * block_bytes);
  for (int64_t i = 0; i < count; ++i) {
    c->caches.push_back(row);
    c->caches.back().blocks = c->blocks.data() + i * blocks;
  }
  return c;
}

}  // namespace fathom::bench
