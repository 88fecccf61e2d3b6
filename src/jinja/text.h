// Strings as Python's str has them, on UTF-8: characters are code points, blanks are Unicode's. All functions take
// valid UTF-8 and return it. Case is mapped for Latin (but for Latin Extended Additional and special casing), Greek and
// Cyrillic; other letters stay as they are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fathom::jinja {

size_t CountChars(std::string_view s);
// The character that begins at byte `at`, which then is the next one's.
char32_t NextChar(std::string_view s, size_t& at);
void AppendChar(std::string& out, char32_t c);
std::vector<char32_t> ToChars(std::string_view s);
std::string FromChars(const std::vector<char32_t>& chars);

bool IsBlank(char32_t c);  // str.isspace
bool IsUpper(char32_t c);
bool IsLower(char32_t c);
bool IsLetter(char32_t c);
char32_t ToUpper(char32_t c);
char32_t ToLower(char32_t c);
std::string Upper(std::string_view s);
std::string Lower(std::string_view s);
std::string Capitalize(std::string_view s);
std::string Title(std::string_view s);  // str.title

// str.strip and its halves; without `chars`, blanks.
enum class Side { kBoth, kLeft, kRight };
std::string_view Strip(std::string_view s, Side side = Side::kBoth);
std::string_view Strip(std::string_view s, std::string_view chars, Side side);

// str.split and str.rsplit; at most `most` cuts, any number if it is negative. `separator` is not empty.
std::vector<std::string_view> Split(std::string_view s, std::string_view separator, int64_t most);
std::vector<std::string_view> SplitFromRight(std::string_view s, std::string_view separator, int64_t most);
std::vector<std::string_view> SplitBlanks(std::string_view s, int64_t most, bool from_right);
std::vector<std::string_view> SplitLines(std::string_view s, bool keep_ends);

// repr() of a float and of a string, and a string as json.dumps writes it.
std::string FloatText(double v);
std::string QuotePython(std::string_view s);
std::string QuoteJson(std::string_view s, bool ensure_ascii = false);

}  // namespace fathom::jinja
