// What users ask for, with an answer to each: the grammars of mask_speed_test.cpp.
#pragma once

#include <fmt/format.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "grammar/gbnf.h"
#include "grammar/json_schema.h"
#include "grammar/regex.h"

namespace fathom::grammar {

struct SpeedCase {
  const char* name;
  std::function<Result<std::unique_ptr<Machine>>()> compile;
  std::string text;
};

inline std::function<Result<std::unique_ptr<Machine>>()> OfSchema(std::string schema) {
  return [schema = std::move(schema)]() -> Result<std::unique_ptr<Machine>> {
    return CompileJsonSchema(schema).Value()->MakeMachine();
  };
}

inline std::string Repeated(int count, const std::function<std::string(int)>& part, const char* between = "") {
  std::string text;
  for (int i = 0; i < count; ++i) text += (i > 0 ? between : "") + part(i);
  return text;
}

inline std::string Prose(size_t characters) {
  static constexpr const char* kText =
      "She took the letter to the window, read it twice, and said nothing; the boats were coming back (all but one) "
      "and the caf\xC3\xA9 had lit its 12 lamps. "
      "\xE6\xB5\xB7\xE8\xBE\xB9\xE7\x9A\x84\xE9\xA3\x8E\xE5\xBE\x88\xE5\xA4\xA7. ";
  std::string text;
  while (text.size() < characters) text += kText;
  text.resize(characters);
  while ((static_cast<uint8_t>(text.back()) & 0x80) != 0) text.pop_back();
  return text;
}

inline std::vector<SpeedCase> JsonSpeedCases() {
  static constexpr const char* kRecord = R"g({"type": "object", "properties": {
    "name": {"type": "string"}, "email": {"type": "string", "maxLength": 60}, "age": {"type": "integer", "minimum": 0},
    "street": {"type": "string", "minLength": 2, "maxLength": 40}, "city": {"enum": ["Paris", "London", "Rome"]},
    "notes": {"type": "array", "items": {"type": "string"}}, "active": {"type": "boolean"},
    "phone": {"type": "string", "pattern": "^[0-9 +-]{5,20}$"}},
    "required": ["name", "email"], "additionalProperties": false})g";
  const std::string record =
      R"g({"name":"Ada Lovelace of London","street":"12 Great George Street, near the park","age":36,"city":"London",)g"
      R"g("phone":"+44 20 7946","notes":["wrote the first program","translated a paper, with notes of her own"],)g"
      R"g("email":"ada.lovelace@analytical-engine.example","active":true})g";
  static constexpr const char* kTool = R"g({"type": "object", "properties": {"name": {"const": "create_order"},
    "arguments": {"type": "object", "properties": {
      "customer": {"type": "object", "properties": {"id": {"type": "integer"}, "email": {"type": "string"},
        "address": {"type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"},
          "zip": {"type": "string", "pattern": "^[0-9]{5}$"}, "country": {"enum": ["DE", "FR", "IT", "US"]}},
          "required": ["street", "city", "country"], "additionalProperties": false}},
        "required": ["id", "address"], "additionalProperties": false},
      "lines": {"type": "array", "minItems": 1, "items": {"type": "object", "properties": {"sku": {"type": "string",
        "pattern": "^[A-Z]{3}-[0-9]{4}$"}, "quantity": {"type": "integer", "minimum": 1, "maximum": 99},
        "price": {"type": "number", "exclusiveMinimum": 0}, "note": {"type": ["string", "null"]}},
        "required": ["sku", "quantity"], "additionalProperties": false}},
      "express": {"type": "boolean"}, "comment": {"type": "string"}},
      "required": ["customer", "lines"], "additionalProperties": false}},
    "required": ["name", "arguments"], "additionalProperties": false})g";
  const std::string order =
      R"g({"name": "create_order", "arguments": {"customer": {"id": 48213, "email": "jo@example.org", "address": )g"
      R"g({"street": "Unter den Linden 7", "city": "Berlin", "zip": "10117", "country": "DE"}}, "lines": [)g" +
      Repeated(
          6,
          [](int i) {
            return fmt::format(R"g({{"sku": "ABC-{}", "quantity": {}, "price": {}.5, "note": {}}})g", 1000 + 7 * i,
                               1 + 3 * i, 10 + i, i % 2 == 0 ? "null" : "\"wrap it as a present\"");
          },
          ", ") +
      R"g(], "express": true, "comment": "Ring twice; the dog is harmless."}})g";
  const auto product = [](int i) { return fmt::format("\"{} {}\"", i % 2 == 0 ? "blue" : "large", 1000 + 37 * i); };
  const auto one_of_200 = [&](int i) { return product(i * 31 % 200); };
  static constexpr const char* kTree = R"g({"$defs": {"node": {"type": "object", "properties": {"label": {"type":
    "string"}, "value": {"type": "number"}, "children": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
    "required": ["label"], "additionalProperties": false}}, "$ref": "#/$defs/node"})g";
  const std::function<std::string(int)> node = [&](int depth) {
    const std::string children = depth == 0 ? ""
                                            : ",\"children\":[" +
                                                  Repeated(
                                                      2, [&](int) { return node(depth - 1); }, ",") +
                                                  "]";
    return fmt::format(R"g({{"label":"branch {}","value":{}{}}})g", depth, depth * 3, children);
  };
  const std::string object =
      "{\"title\": \"Harbour\", \"tags\": [\"sea\", \"caf\xC3\xA9\", 12.5, true], \"more\": {" +
      Repeated(
          30, [](int i) { return fmt::format("\"field {}\": \"value {}, and some more text to read\"", i, i * 7); },
          ", ") +
      "}}";
  return {
      {"schema of 8 properties", OfSchema(kRecord), record},
      {"nested tool call", OfSchema(kTool), order},
      {"enum of 200 strings",
       OfSchema("{\"type\": \"array\", \"items\": {\"enum\": [" + Repeated(200, product, ",") + "]}}"),
       "[" + Repeated(40, one_of_200, ",") + "]"},
      {"maxLength 100", OfSchema(R"g({"type": "array", "items": {"type": "string", "maxLength": 100}})g"),
       "[" +
           Repeated(
               6, [](int i) { return "\"" + Prose(static_cast<size_t>(98 - 13 * i)) + "\""; }, ",") +
           "]"},
      {"maxLength 5000", OfSchema(R"g({"type": "object", "properties": {"story": {"type": "string", "minLength": 10,
        "maxLength": 5000}}, "required": ["story"], "additionalProperties": false})g"),
       "{\"story\":\"" + Prose(1200) + "\"}"},
      {"arrays with maxItems", OfSchema(R"g({"type": "object", "properties": {"tags": {"type": "array", "maxItems": 20,
        "items": {"type": "string", "maxLength": 30}}, "points": {"type": "array", "maxItems": 50, "items": {"type":
        "array", "minItems": 2, "maxItems": 2, "items": {"type": "number"}}}}})g"),
       "{\"tags\":[" +
           Repeated(
               20, [](int i) { return fmt::format("\"keyword {}\"", i); }, ",") +
           "],\"points\":[" +
           Repeated(
               40, [](int i) { return fmt::format("[{}.25,-{}]", i, i * 17); }, ",") +
           "]}"},
      {"recursive schema", OfSchema(kTree), node(4)},
      {"any JSON object", [] { return Result<std::unique_ptr<Machine>>(JsonObjectGrammar()->MakeMachine()); }, object}};
}

inline std::vector<SpeedCase> TextSpeedCases() {
  static constexpr const char* kJson = R"g(root ::= object
value ::= object | array | string | number | "true" | "false" | "null"
object ::= "{" (member (next member)*)? "}"
member ::= string ":" " "? value
array ::= "[" (value (next value)*)? "]"
next ::= "," " "?
string ::= "\"" ([^"\\\x00-\x1F] | "\\" (["\\bfnrt/] | "u" [0-9a-fA-F]{4}))* "\""
number ::= "-"? ("0" | [1-9] [0-9]*) ("." [0-9]+)?
)g";
  static constexpr const char* kC = R"g(root ::= function+
function ::= type " " name "(" (type " " name (", " type " " name)*)? ") " block
block ::= "{" ws (statement ws)* "}"
statement ::= type " " name " = " sum ";" | "if (" sum ") " block (" else " block)? | "while (" sum ") " block |
  "return" (" " sum)? ";" | name (" = " sum)? ";" | name "(" (sum (", " sum)*)? ");" | "// " [^\n]* "\n"
sum ::= term (" " [-+*/<>] " " term)*
term ::= name ("(" (sum (", " sum)*)? ")")? | [0-9]+ | "(" sum ")" | "\"" [^"\n]* "\""
type ::= "int" | "float" | "char" | "void"
name ::= [a-zA-Z_] [a-zA-Z0-9_]*
ws ::= [ \n]*
)g";
  static constexpr const char* kCode =
      "int count_words(char text, int limit) {\n  int total = 0;\n  // one for each blank\n  while (total < limit) "
      "{\n    if (next_char(text, total) - 32) {\n      total = total + 1;\n    } else {\n      print(\"a word "
      "ended here\");\n      limit = (limit - step(total)) * 2;\n    }\n  }\n  return total;\n}\n";
  const std::string person = "Name: Ada Lovelace\nBorn: 1815-12-10\nNotes: ";
  static constexpr const char* kContact =
      "([a-zA-Z0-9._%+-]+@[a-zA-Z0-9.-]+\\.[a-zA-Z]{2,}, \\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\\d|3[01])"
      "T([01]\\d|2[0-3]):[0-5]\\d:[0-5]\\dZ\\n)+";
  return {{"JSON by GBNF", [] { return CompileGbnf(kJson); },
           "{" +
               Repeated(
                   30, [](int i) { return fmt::format("\"field {}\":\"value {}, and more\"", i, i * 7); }, ", ") +
               "}"},
          {"C-like GBNF", [] { return CompileGbnf(kC); },
           std::string(kCode).substr(0, std::string(kCode).rfind('\n')) +
               std::string(kCode).substr(0, std::string(kCode).rfind('\n'))},
          {"expression with .*",
           [] { return CompileRegex("Name: [A-Z][a-z]+ [A-Z][a-z]+\\nBorn: \\d{4}-\\d\\d-\\d\\d\\nNotes: .*"); },
           person + Prose(900)},
          {".{1,2000}", [] { return CompileRegex(".{1,2000}"); }, Prose(900)},
          {"words of 1 to 12", [] { return CompileRegex("([\\w ]{1,12}[,;.] ?)+"); },
           Repeated(12, [](int) { return "one, two words; three. four, five and; six, seven. eight, "; })},
          {"emails and times", [] { return CompileRegex(kContact); }, Repeated(12, [](int i) {
             return fmt::format("ada.lovelace{}@analytical-engine.example, 18{}-12-{}T09:4{}:05Z\n", i, 15 + i, 10 + i,
                                i % 10);
           })}};
}

}  // namespace fathom::grammar
