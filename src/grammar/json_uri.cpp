#include "grammar/json_uri.h"

#include <cctype>

namespace fathom::grammar {
namespace {

// Of "scheme:", with the colon; 0: none.
size_t SchemeLength(std::string_view uri) {
  if (uri.empty() || std::isalpha(static_cast<unsigned char>(uri[0])) == 0) return 0;
  for (size_t i = 1; i < uri.size(); i++) {
    const char c = uri[i];
    if (c == ':') return i + 1;
    if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '+' && c != '-' && c != '.') return 0;
  }
  return 0;
}

// Without "." and "..".
std::string PlainPath(std::string_view path) {
  std::vector<std::string_view> kept;
  const bool absolute = !path.empty() && path[0] == '/';
  bool folder = false;
  for (size_t begin = 0; begin <= path.size();) {
    size_t end = path.find('/', begin);
    if (end == std::string_view::npos) end = path.size();
    const std::string_view part = path.substr(begin, end - begin);
    folder = part.empty() || part == "." || part == "..";
    if (part == "..") {
      if (!kept.empty()) kept.pop_back();
    } else if (!part.empty() && part != ".") {
      kept.push_back(part);
    }
    begin = end + 1;
  }
  std::string plain = absolute ? "/" : "";
  for (size_t i = 0; i < kept.size(); i++) plain.append(i > 0 ? "/" : "").append(kept[i]);
  if (folder && !kept.empty()) plain += '/';
  return plain;
}

}  // namespace

std::string ResolveUri(std::string_view base, std::string_view reference) {
  if (SchemeLength(reference) > 0) return std::string(reference);
  base = base.substr(0, base.find('#'));
  if (reference.empty() || reference[0] == '#') return std::string(base).append(reference);
  const size_t hash = reference.find('#');
  const std::string_view path = reference.substr(0, hash);
  const std::string_view fragment = hash == std::string_view::npos ? "" : reference.substr(hash);
  size_t root = SchemeLength(base);
  if (reference.starts_with("//")) return std::string(base.substr(0, root)).append(reference);
  if (base.substr(root).starts_with("//")) root = std::min(base.find('/', root + 2), base.size());
  const std::string_view base_path = base.substr(root);
  const size_t slash = base_path.rfind('/');
  std::string joined(path);
  if (path[0] != '/' && slash != std::string_view::npos) {
    joined = std::string(base_path.substr(0, slash + 1)).append(path);
  } else if (path[0] != '/' && root > SchemeLength(base)) {
    joined = "/" + joined;
  }
  return std::string(base.substr(0, root)) + PlainPath(joined) + std::string(fragment);
}

std::pair<std::string, std::string> SplitFragment(std::string_view uri) {
  const size_t hash = uri.find('#');
  if (hash == std::string_view::npos) return {std::string(uri), ""};
  std::string fragment;
  for (size_t i = hash + 1; i < uri.size(); i++) {
    const auto hex = [&](size_t at) {
      return at < uri.size() && std::isxdigit(static_cast<unsigned char>(uri[at])) != 0;
    };
    if (uri[i] == '%' && hex(i + 1) && hex(i + 2)) {
      fragment += static_cast<char>(std::stoi(std::string(uri.substr(i + 1, 2)), nullptr, 16));
      i += 2;
    } else {
      fragment += uri[i];
    }
  }
  return {std::string(uri.substr(0, hash)), fragment};
}

std::vector<std::string> PointerNames(std::string_view pointer) {
  std::vector<std::string> names;
  for (size_t i = 0; i < pointer.size(); i++) {
    if (pointer[i] == '/') {
      names.emplace_back();
    } else if (!names.empty()) {
      const bool escaped =
          pointer[i] == '~' && i + 1 < pointer.size() && (pointer[i + 1] == '0' || pointer[i + 1] == '1');
      names.back() += escaped ? (pointer[++i] == '0' ? '~' : '/') : pointer[i];
    }
  }
  return names;
}

}  // namespace fathom::grammar
