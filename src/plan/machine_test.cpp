#include "plan/machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "core/error.h"
#include "io/file.h"

namespace fathom::plan {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kFolder[] = FATHOM_SOURCE_DIR "/configs/machines/";

std::string ParseFault(const std::string& text) {
  try {
    ParseMachine(text, "m.toml");
  } catch (const Error& e) {
    return e.what();
  }
  return "none";
}

std::string Replaced(const std::string& key, const std::string& line) {
  const std::string text = io::ReadFile(std::string(kFolder) + "h100-8.toml", 1 << 20).Value();
  const std::string out = std::regex_replace(text, std::regex("(^|\n)" + key + " =[^\n]*"), "\n" + line);
  EXPECT_NE(out, text) << key;
  return out;
}

TEST(PlanMachine, TheClusterOfTheReport) {
  const Machine m = ReadMachine(std::string(kFolder) + "h800-2048.toml");
  EXPECT_EQ(m.devices, 2048);
  EXPECT_EQ(m.devices_per_node, 8);
  EXPECT_EQ(m.Peak(train::PeakKind::kBf16), 989.4e12);
  EXPECT_EQ(m.Peak(train::PeakKind::kFp8), 1978.9e12);
  EXPECT_EQ(m.node_gb_s, 160);
  EXPECT_EQ(m.network_gb_s, 50);
  EXPECT_EQ(m.usd_per_device_hour, 2);
}

TEST(PlanMachine, AllThatLieThere) {
  const std::vector<Machine> machines = MachinesBeside(std::string(kFolder) + "anything.toml");
  EXPECT_GE(machines.size(), 4u);
  for (const Machine& m : machines) {
    EXPECT_FALSE(m.name.empty()) << m.path;
    EXPECT_FALSE(m.source.empty()) << m.path;
  }
}

// Every key: left out, and written wrongly, it is named with its file.
TEST(PlanMachine, KeysThatLackOrAreMisspelt) {
  for (const char* key :
       {"name", "source", "devices", "devices_per_node", "memory_gib", "host_memory_gib", "peak_bf16_tflops",
        "peak_fp8_tflops", "peak_fp32_tflops", "node_gb_s", "network_gb_s", "usd_per_device_hour", "mfu"}) {
    EXPECT_THAT(ParseFault(Replaced(key, "")), AllOf(HasSubstr("m.toml"), HasSubstr(std::string("lacks ") + key)));
    const std::string misspelt = std::string(key) + "z";
    EXPECT_THAT(ParseFault(Replaced(key, misspelt + " = 1")),
                AllOf(HasSubstr("m.toml"), HasSubstr(misspelt), HasSubstr(std::string(key) + ", which it lacks")));
  }
}

TEST(PlanMachine, ValuesThatAreWrong) {
  EXPECT_THAT(ParseFault(Replaced("devices", "devices = 0")), AllOf(HasSubstr("devices"), HasSubstr("0 (line")));
  EXPECT_THAT(ParseFault(Replaced("devices", "devices = 2.5")), HasSubstr("a whole number"));
  EXPECT_THAT(ParseFault(Replaced("devices", "devices = 12")), HasSubstr("devices = 12, devices_per_node = 8"));
  EXPECT_THAT(ParseFault(Replaced("mfu", "mfu = 1.5")), AllOf(HasSubstr("mfu"), HasSubstr("1.5")));
  EXPECT_THAT(ParseFault(Replaced("memory_gib", "memory_gib = \"80\"")), HasSubstr("\"80\""));
  EXPECT_THAT(ParseFault(Replaced("memory_gib", "memory_gib = nan")), HasSubstr("memory_gib"));
  EXPECT_THAT(ParseFault(Replaced("memory_gib", "memory_gib = true")), HasSubstr("true"));
  EXPECT_THAT(ParseFault(Replaced("name", "name = 3")), HasSubstr("a string"));
  EXPECT_THAT(ParseFault("devices ="), HasSubstr("m.toml is no TOML"));
  EXPECT_THROW(ReadMachine("/nowhere.toml"), Error);
}

}  // namespace
}  // namespace fathom::plan
