# Toolchain: Debian's cross compiler for 64-bit ARM, libraries from the folder that tools/aarch64-sysroot makes, programs
# run by QEMU. FATHOM_SYSROOT (or the environment's FATHOM_AARCH64_SYSROOT) names another folder.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

if(NOT FATHOM_SYSROOT)
  if(DEFINED ENV{FATHOM_AARCH64_SYSROOT})
    set(FATHOM_SYSROOT $ENV{FATHOM_AARCH64_SYSROOT})
  else()
    get_filename_component(FATHOM_SYSROOT ${CMAKE_CURRENT_LIST_DIR}/../build/aarch64-sysroot ABSOLUTE)
  endif()
endif()
set(FATHOM_SYSROOT ${FATHOM_SYSROOT} CACHE PATH "Debian's libraries for 64-bit ARM")
list(APPEND CMAKE_TRY_COMPILE_PLATFORM_VARIABLES FATHOM_SYSROOT)
if(NOT EXISTS ${FATHOM_SYSROOT}/complete)
  message(FATAL_ERROR "No libraries for 64-bit ARM in ${FATHOM_SYSROOT}: make them by tools/aarch64-sysroot.")
endif()

set(CMAKE_SYSROOT ${FATHOM_SYSROOT})
set(CMAKE_LIBRARY_ARCHITECTURE aarch64-linux-gnu)
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
set(ENV{PKG_CONFIG_LIBDIR} ${FATHOM_SYSROOT}/usr/lib/aarch64-linux-gnu/pkgconfig:${FATHOM_SYSROOT}/usr/share/pkgconfig)
set(ENV{PKG_CONFIG_SYSROOT_DIR} ${FATHOM_SYSROOT})

set(CMAKE_CROSSCOMPILING_EMULATOR "qemu-aarch64;-L;${FATHOM_SYSROOT}" CACHE STRING "Runs programs for 64-bit ARM")
