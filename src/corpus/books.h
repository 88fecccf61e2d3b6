// Books of the public domain to documents that a model is trained on. Two forms are told apart by themselves: plain
// text as Project Gutenberg publishes it (lines broken at some 70 characters), and Markdown with several books, each
// after a line "# Title: ...".
//
// What remains is running text: paragraphs on one line each, a blank line between them, quotes and dashes in ASCII,
// marks of emphasis and what stands in square brackets left out. Left out are notes of producers, title pages,
// contents, headings and verse of more than eight lines. A document is a chapter, or a part of one of 2 to 4 thousand
// bytes; documents with slurs are left out.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace fathom::corpus {

struct BookDocument {
  std::string book, text;
};

// `title` names a book of plain text; in Markdown each book says its own.
std::vector<BookDocument> CleanBooks(std::string_view text, std::string_view title);

// Quotes, dashes, ellipses and blanks of Unicode as ASCII, ligatures as two letters; other characters as they are.
std::string AsciiPunctuation(std::string_view text);

}  // namespace fathom::corpus
