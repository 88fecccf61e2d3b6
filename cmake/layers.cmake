# The layer order, written once. A folder of src/ may include only folders of lower layers; tests/layering_test.py reads this
# list and every #include. fathom_folder(NAME SOURCES... ) makes the folder's library, fathom_tests(NAME SOURCES...) its tests.
set(FATHOM_LAYERS
  "L0:core"
  "L1:io"
  "L2:kernels comm tokenizer net report"
  "L3:model data"
  "L4:checkpoint parallel"
  "L5:train engine"
  "L6:posttrain eval server"
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

# fathom_tests(core SOURCES a_test.cpp LABELS fast): one test program per folder, each TEST a ctest entry.
function(fathom_tests name)
  if(NOT FATHOM_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "SUFFIX" "SOURCES;DEPENDS;LABELS" ${ARGN})
  set(target ${name}${ARG_SUFFIX}_test)
  add_executable(${target} ${ARG_SOURCES})
  target_link_libraries(${target} PRIVATE fathom_${name} GTest::gtest_main GTest::gmock)
  foreach(d ${ARG_DEPENDS})
    target_link_libraries(${target} PRIVATE fathom_${d})
  endforeach()
  target_compile_definitions(${target} PRIVATE FATHOM_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  if(NOT ARG_LABELS)
    set(ARG_LABELS fast)
  endif()
  gtest_discover_tests(${target} DISCOVERY_MODE PRE_TEST PROPERTIES LABELS "${ARG_LABELS}" TIMEOUT 300)
endfunction()
