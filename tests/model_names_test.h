// Names of tests whose parameter is a model's folder: its last part, with what names may have.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace fathom {

inline std::string NameOfModel(const testing::TestParamInfo<const char*>& test) {
  std::string name = test.param;
  name = name.substr(name.rfind('/') + 1);
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

}  // namespace fathom
