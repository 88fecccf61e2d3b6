# Build options, warnings, sanitizers and the packages that fathom takes from the system.
option(FATHOM_TESTS "Build the tests" ON)
option(FATHOM_BENCH "Build fathom-bench" ON)
option(FATHOM_FUZZ "Build the libFuzzer targets (clang only)" OFF)
option(FATHOM_WERROR "Treat warnings as errors" ON)
option(FATHOM_SANITIZE_SPARINGLY "Of undefined, without the checks that are slow to compile" OFF)
set(FATHOM_UNITY "SOME" CACHE STRING "Sixteen files of a target are compiled as one: ON, OFF, or SOME, of commands and tests")
set(FATHOM_SANITIZE "" CACHE STRING "Sanitizers, e.g. address,undefined or thread")

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(nlohmann_json 3.11 REQUIRED)
find_package(fmt REQUIRED)
find_package(CLI11 REQUIRED)
find_package(ZLIB REQUIRED)
find_package(tomlplusplus REQUIRED)
find_package(OpenSSL 3 REQUIRED)
find_package(SQLite3 REQUIRED)
find_package(Boost 1.74 REQUIRED)
pkg_check_modules(HWLOC REQUIRED IMPORTED_TARGET hwloc)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(EDIT REQUIRED IMPORTED_TARGET libedit)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(HWY REQUIRED IMPORTED_TARGET libhwy)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
if(FATHOM_TESTS)
  find_package(GTest REQUIRED)
  include(GoogleTest)
endif()

# Names of a folder's anonymous namespaces are told apart, so that its files compile together. Files with flags of their
# own stay alone (CMake sees to that).
string(COMPARE EQUAL "${FATHOM_UNITY}" "ON" CMAKE_UNITY_BUILD)
set(CMAKE_UNITY_BUILD_BATCH_SIZE 16)

add_library(fathom_flags INTERFACE)
# No contraction: a fused multiply-add appears only where a kernel asks for it, so every build gives the same bits.
target_compile_options(fathom_flags INTERFACE -Wall -Wextra -Wno-psabi -ffp-contract=off -fno-math-errno)
if(FATHOM_WERROR)
  target_compile_options(fathom_flags INTERFACE -Werror)
endif()
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(fathom_flags INTERFACE -Wshadow=local $<$<BOOL:${CMAKE_UNITY_BUILD}>:-Wno-subobject-linkage>)
else()  # -Wno-maybe-uninitialized and the like, which single files need under GCC
  target_compile_options(fathom_flags INTERFACE -Wno-unknown-warning-option)
endif()
if(FATHOM_SANITIZE)
  target_compile_options(fathom_flags INTERFACE -fsanitize=${FATHOM_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(fathom_flags INTERFACE -fsanitize=${FATHOM_SANITIZE})
  # Checks of every access to a member double gcc's time for the whole program. Beside AddressSanitizer null pointers are
  # found anyway; alignment is checked where bytes become numbers.
  if(FATHOM_SANITIZE_SPARINGLY)
    target_compile_options(fathom_flags INTERFACE -fno-sanitize=null,vptr,object-size,pointer-overflow
      $<$<NOT:$<IN_LIST:$<TARGET_PROPERTY:NAME>,fathom_core;fathom_io;fathom_kernels;kernels_test;io_test>>:-fno-sanitize=alignment>)
  endif()
  # Vectors are values and temporaries of kernels: watching the end of each one's life takes half of gcc's time for them and
  # half of theirs; what is left is halved once more by the second level.
  target_compile_options(fathom_flags INTERFACE $<$<STREQUAL:$<TARGET_PROPERTY:NAME>,fathom_kernels>:-O2>)
  if(FATHOM_SANITIZE_SPARINGLY)
    target_compile_options(fathom_flags INTERFACE
      $<$<STREQUAL:$<TARGET_PROPERTY:NAME>,fathom_kernels>:-fno-sanitize-address-use-after-scope>)
  endif()
  # A third of the compiler's time, where the program's own is short: tests, commands, servers.
  set(hot fathom_core fathom_io fathom_jinja fathom_kernels fathom_tokenizer fathom_model fathom_data fathom_grammar
    fathom_checkpoint fathom_train fathom_engine fathom_posttrain)
  target_compile_options(fathom_flags INTERFACE $<$<NOT:$<IN_LIST:$<TARGET_PROPERTY:NAME>,${hot}>>:-Og>)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")  # its checks hide from GCC 12 what std::regex has initialised
    target_compile_options(fathom_flags INTERFACE -Wno-maybe-uninitialized)
  endif()
endif()
if(FATHOM_FUZZ)
  target_compile_options(fathom_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
target_include_directories(fathom_flags INTERFACE ${CMAKE_SOURCE_DIR}/src)
