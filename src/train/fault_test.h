// For tests: what a call that must fail says.
#pragma once

#include <string>

#include "core/error.h"

namespace fathom::train {

template <class Function>
std::string Fault(Function&& function) {
  try {
    function();
  } catch (const Error& e) {
    return e.what();
  }
  return "none";
}

}  // namespace fathom::train
