// How far something long has come. The library calls; whoever started the work draws. It is called on the caller's
// thread, between pieces of the work, and may throw to stop it.
#pragma once

#include <cstdint>
#include <functional>

namespace fathom {

using ProgressFn = std::function<void(int64_t done, int64_t total)>;

}  // namespace fathom
