#!/usr/bin/env python3
"""Writes src/tokenizer/unicode_classes.inc: the character classes of pre-tokenizer expressions, as Hugging Face tokenizers has them.

Usage: make_unicode_classes.py > src/tokenizer/unicode_classes.inc   (needs `pip install tokenizers` and Python 3.11)

The classes are asked of the `tokenizers` package itself, so that they are those of its expression engine (Unicode 16 in 0.23). The second
list holds the code points that Unicode 14 (PCRE2 10.42, Python 3.11) had not assigned: they are added to PCRE2's own properties.
"""
import sys
import unicodedata
import tokenizers
from tokenizers import Regex, pre_tokenizers

POINTS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
CLASSES = [("L", r"\p{L}"), ("M", r"\p{M}"), ("P", r"\p{P}"), ("S", r"\p{S}"), ("N", r"\p{N}"), ("W", r"\s")]


def members(expression):
    text = "".join(map(chr, POINTS))
    rest = pre_tokenizers.Split(Regex(expression + "+"), "removed").pre_tokenize_str(text)
    outside = {c for _, (a, b) in rest for c in POINTS[a:b]}
    return [c for c in POINTS if c not in outside]


def ranges(points):
    out = []
    for c in points:
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def show(rows):
    line = ""
    for row in rows:
        item = "{0x%X, 0x%X, k%s}," % row
        if len(line) + len(item) + 1 > 118:
            print(line)
            line = ""
        line += (" " if line else "") + item
    print(line)


def main():
    assert unicodedata.unidata_version == "14.0.0", "run with Python 3.11, whose tables are Unicode 14's"
    print("// Written by tools/make_unicode_classes.py with tokenizers %s; do not edit." % tokenizers.__version__)
    print("// clang-format off")
    rows, new = [], []
    decimal = {c for c in members(r"\d")}
    for name, expression in CLASSES:
        points = members(expression)
        rows += [(a, b, name) for a, b in ranges(points)]
        new += [(a, b, name) for a, b in ranges([c for c in points if unicodedata.category(chr(c)) == "Cn"])]
    new += [(a, b, "Nd") for a, b in ranges([c for c in sorted(decimal) if unicodedata.category(chr(c)) == "Cn"])]
    print("constexpr ClassRange kClassRanges[] = {")
    show(sorted(rows))
    print("};\nconstexpr ClassRange kSinceUnicode14[] = {")
    show(new)
    print("};\n// clang-format on")


main()
