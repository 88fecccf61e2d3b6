// `fathom bench` on the shipped model: every figure is there, consistent with the others, and the memory plan is true.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string>

namespace fathom {
namespace {

nlohmann::json Bench(const std::string& args) {
  const std::string command = std::string(FATHOM_BINARY) + " bench " + args + " --json";
  FILE* pipe = popen(command.c_str(), "r");
  std::string out;
  std::array<char, 4096> buffer;
  for (size_t n; (n = fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) out.append(buffer.data(), n);
  EXPECT_EQ(pclose(pipe), 0) << command;
  return nlohmann::json::parse(out);
}

TEST(BenchCommand, FiguresOfTheShippedModel) {
  const nlohmann::json j =
      Bench(FATHOM_SOURCE_DIR "/models/fathom-16m --batch 1,4 --context 0,64 --prefill 32 --seconds 60");
  for (const char* key : {"read_gb_s", "bf16_tflop_s", "f32_tflop_s", "int8_top_s"})
    EXPECT_GT(j["peak"][key].get<double>(), 0) << key;
  ASSERT_EQ(j["decode"].size(), 4u);
  for (const auto& row : j["decode"]) {
    ASSERT_FALSE(row.contains("skipped")) << row;
    EXPECT_GT(row["tokens_per_s"].get<double>(), 0);
    EXPECT_GT(row["fraction_of_bandwidth"].get<double>(), 0);
    EXPECT_GT(row["fraction_of_roofline"].get<double>(), 0);
    if (row["context"] == 0) {  // further on the bound adds an attention's bytes and operations, the roofline does not
      EXPECT_LE(row["roofline_tokens_per_s"].get<double>(), 1.01 * row["bound_tokens_per_s"].get<double>());
    }
    EXPECT_NEAR(row["tokens_per_s"].get<double>() / row["bound_tokens_per_s"].get<double>(),
                row["fraction_of_bandwidth"].get<double>(), 1e-9);
    // 4 of 16 experts a token: one token uses 4, four tokens more, at most all sixteen.
    const double experts = row["distinct_experts_per_layer"].get<double>();
    EXPECT_GE(experts, 4);
    EXPECT_LE(experts, row["batch"] == 1 ? 4 : 16);
    if (row["batch"] == 4) {
      EXPECT_GT(experts, 4);
    }
  }
  ASSERT_EQ(j["prefill"].size(), 1u);
  EXPECT_GT(j["prefill"][0]["fraction_of_peak"].get<double>(), 0);
  const auto& memory = j["memory"];
  EXPECT_EQ(memory["arena_overflows"], 0);
  // The plan of a real model is true within 5 %; of one this small the allocator's own few megabytes are a larger part.
  const double planned = memory["planned_bytes"].get<double>(), peak = memory["peak_bytes"].get<double>();
  EXPECT_NEAR(planned, peak, 0.05 * peak + 8e6);
}

TEST(BenchCommand, WhatDoesNotFitTheModelIsNamed) {
  const nlohmann::json j =
      Bench(FATHOM_SOURCE_DIR "/models/fathom-16m --batch 1 --context 1000000 --prefill 1000000 --seconds 10");
  ASSERT_EQ(j["decode"].size(), 1u);
  EXPECT_NE(j["decode"][0]["skipped"].get<std::string>().find("positions"), std::string::npos);
  EXPECT_TRUE(j["prefill"][0].contains("skipped"));
}

TEST(BenchCommand, AConfigurationWithRandomWeights) {
  const nlohmann::json j = Bench(FATHOM_SOURCE_DIR
                                 "/configs/models/fathom-16m.json --dtype fp8 --compute bf16 --batch 1 --context 0 "
                                 "--no-prefill --seconds 20");
  EXPECT_EQ(j["weights"], "F8_E4M3");
  EXPECT_EQ(j["compute"], "bf16");
  EXPECT_GT(j["decode"][0]["tokens_per_s"].get<double>(), 0);
  EXPECT_TRUE(j["prefill"].empty());
}

}  // namespace
}  // namespace fathom
