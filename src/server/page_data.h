// The table that cmake/embed.cmake writes.
#pragma once

#include <span>

#include "server/page.h"

namespace fathom::server {

std::span<const PageFile> PageFiles();

}  // namespace fathom::server
