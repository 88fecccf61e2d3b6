# Puts the chat page (web/ and the libraries it uses) into a target: fathom_embed_page(fathom_server). Each file is
# compressed when the program is built (fonts are already) and included by the assembler; the table of them is what
# server/page_data.h declares. Run as a script (cmake -P) this file writes that table.
# The libraries: served as | Debian's package | its file.
set(FATHOM_PAGE_LIBRARIES
  "lib/marked.js|libjs-marked|/usr/share/javascript/marked/marked.min.js"
  "lib/purify.js|node-dompurify|/usr/share/nodejs/dompurify/dist/purify.min.js"
  "lib/highlight.js|libjs-highlight.js|/usr/share/javascript/highlight.js/highlight.min.js"
  "lib/katex.js|libjs-katex|/usr/share/javascript/katex/katex.min.js"
  "lib/katex.css|libjs-katex|/usr/share/javascript/katex/katex.min.css")

# LIST: a file of lines path|file|type|whether to compress; OUT: the source to write; GZIP: the program.
if(CMAKE_SCRIPT_MODE_FILE)
  cmake_minimum_required(VERSION 3.25)
  file(STRINGS ${LIST} entries)
  set(data "")
  set(rows "")
  set(symbols "")
  set(index 0)
  foreach(entry ${entries})
    string(REPLACE "|" ";" entry "${entry}")
    list(GET entry 0 path)
    list(GET entry 1 file)
    list(GET entry 2 type)
    list(GET entry 3 gzip)
    string(REPLACE "," ";" type "${type}")
    file(SHA256 ${file} hash)
    string(SUBSTRING ${hash} 0 16 tag)
    set(held ${file})
    if(gzip)
      get_filename_component(folder ${OUT} DIRECTORY)
      string(REPLACE "/" "_" flat ${path})
      set(held ${folder}/${flat}.gz)
      execute_process(COMMAND ${GZIP} -9 -n -c ${file} OUTPUT_FILE ${held} COMMAND_ERROR_IS_FATAL ANY)
      set(gzip true)
    else()
      set(gzip false)
    endif()
    string(APPEND symbols "extern const char fathom_page_${index}[], fathom_page_${index}_end[];\n")
    string(APPEND data "    \".balign 16\\n.global fathom_page_${index}\\nfathom_page_${index}:\\n\"\n"
      "    \".incbin \\\"${held}\\\"\\n.global fathom_page_${index}_end\\nfathom_page_${index}_end:\\n\"\n"
      "    \".byte 0\\n\"\n")
    string(APPEND rows "      {\"/${path}\", \"${type}\", Bytes(fathom_page_${index}, fathom_page_${index}_end), "
      "\"\\\"${tag}\\\"\", ${gzip}},\n")
    math(EXPR index "${index} + 1")
  endforeach()
  file(WRITE ${OUT} "// Written by cmake/embed.cmake.
#include \"server/page_data.h\"

asm(\".pushsection .rodata\\n\"
${data}    \".popsection\\n\");

extern \"C\" {
${symbols}}

namespace fathom::server {

std::span<const PageFile> PageFiles() {
  const auto Bytes = [](const char* begin, const char* end) { return std::string_view(begin, end - begin); };
  static const PageFile files[] = {
${rows}  };
  return files;
}

}  // namespace fathom::server
")
  return()
endif()

set(FATHOM_EMBED_SCRIPT ${CMAKE_CURRENT_LIST_FILE})

function(fathom_page_type path out)
  get_filename_component(extension ${path} LAST_EXT)
  if(extension STREQUAL ".html")
    set(type "text/html; charset=utf-8")
  elseif(extension STREQUAL ".css")
    set(type "text/css; charset=utf-8")
  elseif(extension STREQUAL ".js")
    set(type "text/javascript; charset=utf-8")
  elseif(extension STREQUAL ".svg")
    set(type "image/svg+xml")
  elseif(extension STREQUAL ".woff2")
    set(type "font/woff2")
  else()
    message(FATAL_ERROR "cmake/embed.cmake has no content type for ${path}")
  endif()
  string(REPLACE ";" "," type "${type}")
  set(${out} "${type}" PARENT_SCOPE)
endfunction()

function(fathom_embed_page target)
  find_program(GZIP_PROGRAM gzip REQUIRED)
  set(lines "")
  set(inputs ${FATHOM_EMBED_SCRIPT})
  file(GLOB files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/web/*.html ${CMAKE_SOURCE_DIR}/web/*.css
    ${CMAKE_SOURCE_DIR}/web/*.js ${CMAKE_SOURCE_DIR}/web/*.svg)
  foreach(file ${files})
    get_filename_component(name ${file} NAME)
    list(APPEND served "${name}|${file}")
  endforeach()
  foreach(library ${FATHOM_PAGE_LIBRARIES})
    string(REPLACE "|" ";" library "${library}")
    list(GET library 0 path)
    list(GET library 1 package)
    list(GET library 2 file)
    if(NOT EXISTS ${file})
      message(FATAL_ERROR "The chat page needs ${file}, which is not there: install Debian's package ${package} "
        "(apt-get install ${package}).")
    endif()
    list(APPEND served "${path}|${file}")
  endforeach()
  file(GLOB fonts /usr/share/fonts/truetype/katex/*.woff2)
  if(NOT fonts)
    message(FATAL_ERROR "The chat page needs /usr/share/fonts/truetype/katex/*.woff2, which are not there: install "
      "Debian's package fonts-katex (apt-get install fonts-katex).")
  endif()
  foreach(font ${fonts})
    get_filename_component(name ${font} NAME)
    list(APPEND served "lib/fonts/${name}|${font}")
  endforeach()
  foreach(entry ${served})
    string(REGEX REPLACE "\\|.*" "" path "${entry}")
    string(REGEX REPLACE ".*\\|" "" file "${entry}")
    fathom_page_type(${path} type)
    set(gzip 1)
    if(path MATCHES "woff2$")
      set(gzip 0)
    endif()
    string(APPEND lines "${path}|${file}|${type}|${gzip}\n")
    list(APPEND inputs ${file})
  endforeach()
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/page)
  file(CONFIGURE OUTPUT ${folder}/files.txt CONTENT "${lines}" @ONLY)
  add_custom_command(OUTPUT ${folder}/page_data.cpp
    COMMAND ${CMAKE_COMMAND} -DLIST=${folder}/files.txt -DOUT=${folder}/page_data.cpp -DGZIP=${GZIP_PROGRAM}
            -P ${FATHOM_EMBED_SCRIPT}
    DEPENDS ${inputs} ${folder}/files.txt
    COMMENT "Embedding the chat page" VERBATIM)
  target_sources(${target} PRIVATE ${folder}/page_data.cpp)
endfunction()
