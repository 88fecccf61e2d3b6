// JSON with its keys in the order in which they were written, which a model that reads them may mind.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

namespace fathom::server {

// The member `key` of an object that ParseBody has accepted (so keys are there once, and depth and size are bounded);
// null if there is none. Linear in the text, however many keys there are.
nlohmann::ordered_json OrderedMember(std::string_view body, std::string_view key);

}  // namespace fathom::server
