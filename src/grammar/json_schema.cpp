#include "grammar/json_schema.h"

#include "grammar/json_machine.h"

namespace fathom::grammar {
namespace {

class CompiledJson final : public JsonGrammar {
 public:
  explicit CompiledJson(JsonForms forms) : forms_(std::make_shared<const JsonForms>(std::move(forms))) {}
  std::unique_ptr<Machine> MakeMachine() const override { return std::make_unique<JsonMachine>(forms_); }

 private:
  const std::shared_ptr<const JsonForms> forms_;
};

}  // namespace

Result<std::shared_ptr<const JsonGrammar>> CompileJsonSchema(std::string_view schema, const JsonOptions& options) {
  auto tree = ReadJsonTree(schema);
  if (!tree.ok()) return tree.error();
  try {
    SchemaSource source(tree.Value(), options.draft);
    return std::shared_ptr<const JsonGrammar>(std::make_shared<CompiledJson>(CompileForms(source)));
  } catch (const Error& error) {
    return error;
  }
}

std::shared_ptr<const JsonGrammar> JsonObjectGrammar() { return CompileJsonSchema(R"({"type": "object"})").Value(); }

}  // namespace fathom::grammar
