# The layer order, written once. A folder of src/ may include only folders of lower layers; tests/layering_test.cpp reads
# this list and every #include. fathom_folder makes the folder's library, fathom_tests its tests, fathom_cross_tests a test
# program of tests/, fathom_fuzzer a fuzz target.
set(FATHOM_LAYERS
  "L0:core"
  "L1:io jinja"
  "L2:kernels comm tokenizer net report"
  "L3:model data corpus grammar cache"
  "L4:checkpoint parallel"
  "L5:train engine"
  "L6:posttrain eval plan server"
  "L7:cli")

# fathom_folder(core SOURCES a.cpp b.cpp DEPENDS io PACKAGES fmt::fmt)
function(fathom_folder name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;PACKAGES" ${ARGN})
  add_library(fathom_${name} STATIC ${ARG_SOURCES})
  target_link_libraries(fathom_${name} PUBLIC fathom_flags)
  foreach(d ${ARG_DEPENDS})
    target_link_libraries(fathom_${name} PUBLIC fathom_${d})
  endforeach()
  target_link_libraries(fathom_${name} PUBLIC ${ARG_PACKAGES})
endfunction()

# Where headers take most of a file's time: several files as one.
function(fathom_unity target)
  if(FATHOM_UNITY)
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON)
    target_compile_options(${target} PRIVATE $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
  endif()
endfunction()

# The test programs of each label.
add_custom_target(fast_tests)
add_custom_target(slow_tests)

set(FATHOM_TEST_SECONDS 300)
if(CMAKE_CROSSCOMPILING)  # an emulator is some twenty times slower
  set(FATHOM_TEST_SECONDS 3000)
endif()

# A test program; each TEST is a ctest entry (one that calls GTEST_SKIP is counted as skipped). Labels: `fast` (the
# default: all of them together within a minute or two, and run again under sanitizers) or `slow`.
# fathom_cross_tests(golden_test SOURCES golden_test.cpp DEPENDS checkpoint model LABELS slow)
function(fathom_cross_tests target)
  if(NOT FATHOM_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;LABELS" ${ARGN})
  add_executable(${target} ${ARG_SOURCES})
  target_link_libraries(${target} PRIVATE fathom_flags GTest::gtest_main GTest::gmock)
  foreach(d ${ARG_DEPENDS})
    target_link_libraries(${target} PRIVATE fathom_${d})
  endforeach()
  target_compile_definitions(${target} PRIVATE FATHOM_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  target_compile_options(${target} PRIVATE $<$<CONFIG:Release>:-O1>)  # what is tested is fast, the tests need not be
  fathom_unity(${target})
  if(NOT ARG_LABELS)
    set(ARG_LABELS fast)
  endif()
  foreach(label ${ARG_LABELS})
    add_dependencies(${label}_tests ${target})
  endforeach()
  gtest_discover_tests(${target} DISCOVERY_MODE PRE_TEST DISCOVERY_TIMEOUT 60
    PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT ${FATHOM_TEST_SECONDS})
endfunction()

# The tests beside a folder's code: fathom_tests(core SOURCES a_test.cpp [SUFFIX _slow LABELS slow] [DEPENDS io])
function(fathom_tests name)
  cmake_parse_arguments(ARG "" "SUFFIX" "SOURCES;DEPENDS;LABELS" ${ARGN})
  fathom_cross_tests(${name}${ARG_SUFFIX}_test SOURCES ${ARG_SOURCES} DEPENDS ${name} ${ARG_DEPENDS}
                     LABELS ${ARG_LABELS})
endfunction()

# fathom_fuzzer(safetensors_fuzz DEPENDS io): built from safetensors_fuzz.cpp, with libFuzzer.
function(fathom_fuzzer target)
  cmake_parse_arguments(ARG "" "" "DEPENDS" ${ARGN})
  add_executable(${target} ${target}.cpp)
  target_link_libraries(${target} PRIVATE fathom_flags)
  foreach(d ${ARG_DEPENDS})
    target_link_libraries(${target} PRIVATE fathom_${d})
  endforeach()
  target_link_options(${target} PRIVATE -fsanitize=fuzzer)
endfunction()
