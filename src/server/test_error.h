// For tests: what a call refuses.
#pragma once

#include "server/api_error.h"

namespace fathom::server {

// The ApiError that `call` throws; one of status 0 if it throws none.
template <class F>
ApiError ErrorOf(const F& call) {
  try {
    call();
  } catch (const ApiError& e) {
    return e;
  }
  ApiError none;
  none.status = 0;
  return none;
}

}  // namespace fathom::server
