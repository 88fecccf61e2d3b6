// Small pictures for maps: PNG with a palette.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace fathom::report {

using Rgba = std::array<uint8_t, 4>;

// pixels (height, width) of indices into the palette (at most 256 colours).
std::string EncodePng(const std::vector<uint8_t>& pixels, int64_t width, int64_t height,
                      const std::vector<Rgba>& palette);

// "data:image/png;base64,..." and the like.
std::string DataUri(const std::string& mime_type, const std::string& bytes);

}  // namespace fathom::report
