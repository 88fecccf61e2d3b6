# Writes git's description of the sources to OUT as a header, only when it changed, so that nothing is compiled again for
# nothing. cmake -DSOURCE=... -DOUT=... -P commit.cmake
cmake_minimum_required(VERSION 3.25)
execute_process(COMMAND git describe --always --dirty --exclude=* WORKING_DIRECTORY ${SOURCE}
  OUTPUT_VARIABLE commit ERROR_QUIET OUTPUT_STRIP_TRAILING_WHITESPACE RESULT_VARIABLE failed)
if(failed OR NOT commit)
  set(commit unknown)
endif()
file(CONFIGURE OUTPUT ${OUT} CONTENT "#pragma once\n#define FATHOM_COMMIT \"@commit@\"\n" @ONLY)
