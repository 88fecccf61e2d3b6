// JSON as Python prints it: json.dumps(json.loads(text), ensure_ascii=False), which is the "tojson" of chat templates.
#pragma once

#include <string>
#include <string_view>

#include "core/error.h"

namespace fathom::tokenizer {

// ", " and ": " between; integers of any size as they are, floating-point numbers as repr() writes them; of equal keys
// the last value at the first one's place. Text that is not JSON (NaN and unpaired surrogates too), or nested more than
// 200 deep, is an Error.
Result<std::string> PythonJson(std::string_view text);

}  // namespace fathom::tokenizer
