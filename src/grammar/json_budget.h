// What compiling one schema may cost: everything that can grow beyond the schema's size is charged here, and what runs
// out is refused under the keyword that asked for it.
#pragma once

#include <cstdint>
#include <string>

#include "core/error.h"

namespace fathom::grammar {

// A schema that cannot be taken: the keyword, where it stands, why.
Error SchemaError(const std::string& keyword, const std::string& where, const std::string& why);

class Budget {
 public:
  explicit Budget(int64_t steps) : left_(steps) {}
  // Throws the Error of the keyword.
  void Charge(int64_t steps, const char* keyword) {
    left_ -= steps;
    if (left_ < 0) throw SchemaError(keyword, "", "the schema takes too many states; make it smaller or simpler");
  }

 private:
  int64_t left_;
};

}  // namespace fathom::grammar
