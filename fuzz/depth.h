// JSON that is nested deeper than what recursive readers (merge_patch, dump) are given here.
#pragma once

#include <string_view>

inline bool IsDeep(std::string_view json) {
  int depth = 0;
  for (const char c : json) {
    depth += (c == '{' || c == '[') - (c == '}' || c == ']');
    if (depth > 200) return true;
  }
  return false;
}
