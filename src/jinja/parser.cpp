#include "jinja/parser.h"

#include <algorithm>
#include <initializer_list>

#include "jinja/expression_parser.h"

namespace fathom::jinja {
namespace {

constexpr int kMaxStatementDepth = 60;

class Parser : public ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  Program Run() {
    Program program;
    program.body = Body({});
    if (Now().kind != Token::Kind::kEnd) Fail(fmt::format("'{}' without its beginning", Ahead().text));
    program.names = std::move(names_);
    return program;
  }

 private:
  using Words = std::initializer_list<std::string_view>;

  static Statement New(Statement::Kind kind, int line) {
    Statement s{};
    s.kind = kind;
    s.line = line;
    return s;
  }
  void EndBlock() {
    if (Now().kind != Token::Kind::kBlockEnd) Unexpected("%}");
    Take();
  }

  // Statements up to a tag whose name is one of `ends`, which stays: its name is next. At the outermost level up to the
  // end, or to a tag that ends nothing.
  Statements Body(Words ends) {
    if (++nesting_ > kMaxStatementDepth) Fail("statements that are nested too deeply");
    Statements out;
    while (Now().kind != Token::Kind::kEnd) {
      const int line = Now().line;
      if (Now().kind == Token::Kind::kData) {
        out.push_back(New(Statement::Kind::kText, line));
        out.back().text = Take().text;
      } else if (Now().kind == Token::Kind::kOutputBegin) {
        Take();
        out.push_back(New(Statement::Kind::kOutput, line));
        out.back().expression = MaybeTuple(true);
        if (Now().kind != Token::Kind::kOutputEnd) Unexpected("}}");
        Take();
      } else {
        const std::string& name = Ahead().text;
        if (Ahead().kind == Token::Kind::kName && std::find(ends.begin(), ends.end(), name) != ends.end()) {
          Take();
          --nesting_;
          return out;
        }
        if (ends.size() == 0 && name.starts_with("end")) break;
        Take();
        Tag(out);
      }
    }
    if (ends.size() > 0) Fail(fmt::format("no {}", *(ends.end() - 1)));
    --nesting_;
    return out;
  }
  Statements BodyTo(std::string_view end) {
    Statements out = Body({end});
    Take();
    EndBlock();
    return out;
  }

  void Tag(Statements& out) {
    if (Now().kind != Token::Kind::kName) Unexpected("a tag's name");
    const Token& tag = Take();
    const std::string& name = tag.text;
    if (name == "if") return If(out, tag.line);
    if (name == "for") return For(out, tag.line);
    if (name == "set") return Set(out, tag.line);
    if (name == "macro") return Macro(out, tag.line);
    if (name == "call") return CallBlock(out, tag.line);
    if (name == "filter") return FilterBlock(out, tag.line);
    if (name == "with") return With(out, tag.line);
    if (name == "generation") {  // marks what a model is trained on; says nothing here
      EndBlock();
      out.push_back(New(Statement::Kind::kScope, tag.line));
      out.back().bodies.push_back(BodyTo("endgeneration"));
      return;
    }
    if (name == "break" || name == "continue") {
      if (loops_ == 0) Fail(fmt::format("'{}' outside of a loop", name));
      out.push_back(New(name == "break" ? Statement::Kind::kBreak : Statement::Kind::kContinue, tag.line));
      return EndBlock();
    }
    for (const std::string_view known :
         {"include", "import", "from", "extends", "block", "autoescape", "trans", "do", "print"}) {
      if (name == known) Fail(fmt::format("'{}' is not supported in chat templates", name));
    }
    Fail(fmt::format("unknown tag '{}'", name));
  }

  void If(Statements& out, int line) {
    Statement s = New(Statement::Kind::kIf, line);
    while (true) {
      s.expressions.push_back(MaybeTuple(false));
      EndBlock();
      s.bodies.push_back(Body({"elif", "else", "endif"}));
      const std::string end = Take().text;
      if (end == "elif") continue;
      EndBlock();
      if (end == "else") s.bodies.push_back(BodyTo("endif"));
      break;
    }
    out.push_back(std::move(s));
  }

  void For(Statements& out, int line) {
    Statement s = New(Statement::Kind::kFor, line);
    s.target = Targets(false, "in");
    if (!TakeName("in")) Unexpected("'in'");
    s.expression = MaybeTuple(false, "recursive");
    if (TakeName("if")) s.expressions.push_back(Any());
    if (IsName("recursive")) Fail("recursive loops are not supported");
    EndBlock();
    ++loops_;
    s.bodies.push_back(Body({"else", "endfor"}));
    --loops_;
    const bool has_else = Take().text == "else";
    EndBlock();
    if (has_else) s.bodies.push_back(BodyTo("endfor"));
    out.push_back(std::move(s));
  }

  Target OneTarget(bool attributes) {
    if (TakeSign("(")) {
      Target t = Targets(attributes, "");
      NeedSign(")");
      return t;
    }
    const Token& name = Now();
    Target t;
    const std::string text = NeedAnyName("a name");
    for (const std::string_view reserved : {"true", "false", "none", "True", "False", "None"}) {
      if (text == reserved) throw SourceError{fmt::format("'{}' cannot be set", text), name.line};
    }
    t.name = Intern(text);
    if (attributes && TakeSign(".")) t.attribute = NeedAnyName("an attribute's name");
    return t;
  }
  Target Targets(bool attributes, std::string_view end) {
    if (++nesting_ > kMaxStatementDepth) Fail("statements that are nested too deeply");
    Target first = OneTarget(attributes);
    if (IsSign(",")) {
      Target all;
      all.parts.push_back(std::move(first));
      while (TakeSign(",")) {
        if (IsSign("=") || IsSign(")") || (!end.empty() && IsName(end))) break;
        all.parts.push_back(OneTarget(attributes));
      }
      first = std::move(all);
    }
    --nesting_;
    return first;
  }

  void Set(Statements& out, int line) {
    Statement s = New(Statement::Kind::kSet, line);
    s.target = Targets(true, "");
    if (TakeSign("=")) {
      s.expression = MaybeTuple(true);
      EndBlock();
    } else {
      s.kind = Statement::Kind::kSetBlock;
      s.expression = Filters(nullptr, true);
      EndBlock();
      s.bodies.push_back(BodyTo("endset"));
    }
    out.push_back(std::move(s));
  }

  void Parameters(MacroCode& macro) {
    NeedSign("(");
    while (!IsSign(")")) {
      if (!macro.parameters.empty()) NeedSign(",");
      if (IsSign(")")) break;
      macro.parameters.push_back(Intern(NeedAnyName("a parameter's name")));
      if (TakeSign("=")) {
        macro.defaults.push_back(Any());
      } else if (!macro.defaults.empty()) {
        Fail("a parameter without default behind one that has one");
      }
    }
    NeedSign(")");
  }
  Statements MacroBody(std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    Statements body = BodyTo(end);
    loops_ = loops;
    return body;
  }

  void Macro(Statements& out, int line) {
    Statement s = New(Statement::Kind::kMacro, line);
    auto macro = std::make_shared<MacroCode>();
    macro->name = NeedAnyName("a macro's name");
    s.target.name = Intern(macro->name);
    Parameters(*macro);
    EndBlock();
    macro->body = MacroBody("endmacro");
    s.macro = std::move(macro);
    out.push_back(std::move(s));
  }

  void CallBlock(Statements& out, int line) {
    Statement s = New(Statement::Kind::kCallBlock, line);
    auto caller = std::make_shared<MacroCode>();
    caller->name = "caller";
    if (IsSign("(")) Parameters(*caller);
    s.expression = Any();
    if (s.expression->kind != Expression::Kind::kCall) Fail("'call' without a call");
    EndBlock();
    caller->body = MacroBody("endcall");
    s.macro = std::move(caller);
    out.push_back(std::move(s));
  }

  void FilterBlock(Statements& out, int line) {
    Statement s = New(Statement::Kind::kFilter, line);
    // The first filter has no | before it.
    s.expression = FirstFilter();
    EndBlock();
    s.bodies.push_back(BodyTo("endfilter"));
    out.push_back(std::move(s));
  }

  void With(Statements& out, int line) {
    Statement s = New(Statement::Kind::kWith, line);
    while (Now().kind != Token::Kind::kBlockEnd) {
      if (!s.targets.empty()) NeedSign(",");
      s.targets.push_back(OneTarget(false));
      NeedSign("=");
      s.expressions.push_back(Any());
    }
    EndBlock();
    s.bodies.push_back(BodyTo("endwith"));
    out.push_back(std::move(s));
  }

  int nesting_ = 0;
  int loops_ = 0;
};

}  // namespace

Program ParseProgram(std::string_view source) { return Parser(Tokenize(source)).Run(); }

}  // namespace fathom::jinja
