// Random texts of JSON schemas, for a validator that knows nothing of this one: reads a schema a line, writes a line
// for each: {"texts": [...]} or {"refused": "..."}. json_walk SEED TEXTS < schemas
#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>
#include <random>
#include <string>

#include "grammar/json_schema.h"

namespace {

using fathom::grammar::Machine;

// Live bytes by chance for a while, then what ends soonest; false: it has not ended.
bool Walk(Machine& machine, std::mt19937& random, std::string& text) {
  Machine::State state = machine.Start();
  const size_t length = random() % 120;
  while (text.size() < 3000) {
    const bool ending = text.size() >= length;
    if (machine.Accepts(state) && (ending || random() % 4 == 0)) return true;
    const auto live = [&](char byte) { return machine.Next(state, static_cast<uint8_t>(byte)) != Machine::kDead; };
    std::string bytes;
    if (live('\\') && live('"') && (ending || random() % 8 == 0)) {
      bytes.assign(1, '"');
    } else if (ending) {
      for (const char byte : std::string("}],")) {
        if (bytes.empty() && live(byte) && !live('\\')) bytes.assign(1, byte);
      }
    }
    if (bytes.empty()) {
      const int last = random() % 8 == 0 ? 255 : 126;
      for (int byte = 0; byte <= last; byte++) {
        if (live(static_cast<char>(byte))) bytes += static_cast<char>(byte);
      }
      if (bytes.empty()) {
        for (int byte = 127; byte < 256; byte++) {
          if (live(static_cast<char>(byte))) bytes += static_cast<char>(byte);
        }
      }
      if (bytes.empty()) return machine.Accepts(state);
    }
    const char byte = bytes[random() % bytes.size()];
    text += byte;
    state = machine.Next(state, static_cast<uint8_t>(byte));
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  std::mt19937 random(argc > 1 ? static_cast<uint32_t>(std::stoul(argv[1])) : 1);
  const int texts = argc > 2 ? std::stoi(argv[2]) : 3;
  for (std::string line; std::getline(std::cin, line);) {
    const auto grammar = fathom::grammar::CompileJsonSchema(line);
    nlohmann::json answer;
    if (!grammar.ok()) {
      answer["refused"] = grammar.error().summary();
    } else {
      const auto machine = grammar.Value()->MakeMachine();
      answer["texts"] = nlohmann::json::array();
      for (int i = 0; i < texts && machine->Start() != Machine::kDead; i++) {
        std::string text;
        if (Walk(*machine, random, text)) answer["texts"].push_back(text);
      }
    }
    std::cout << answer.dump() << "\n";
  }
  return 0;
}
