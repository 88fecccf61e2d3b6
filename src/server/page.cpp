#include "server/page.h"

#include <algorithm>

#include "server/page_data.h"

namespace fathom::server {

const PageFile* FindPageFile(std::string_view path) {
  if (path == "/") path = "/index.html";
  const auto files = PageFiles();
  const auto found = std::find_if(files.begin(), files.end(), [&](const PageFile& file) { return file.path == path; });
  return found == files.end() ? nullptr : &*found;
}

}  // namespace fathom::server
