# The loops behind peak.h, each with its own instruction set.
list(APPEND kernel_sources
  peak.cpp
  peak_plain.cpp
)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(APPEND kernel_sources
    x86/peak_avx2.cpp
    x86/peak_avx512.cpp
    x86/peak_avx512bf16.cpp
    x86/peak_amx.cpp
  )
  # GCC 12 takes the undefined operands of its AVX-512 intrinsics for uninitialised variables (its bug 105593).
  set(peak_quiet -Wno-maybe-uninitialized -Wno-uninitialized)
  set_source_files_properties(x86/peak_avx2.cpp PROPERTIES COMPILE_OPTIONS "-mavx2;-mfma")
  set_source_files_properties(x86/peak_avx512.cpp PROPERTIES COMPILE_OPTIONS "-mavx512f;${peak_quiet}")
  set_source_files_properties(x86/peak_avx512bf16.cpp PROPERTIES
    COMPILE_OPTIONS "-mavx512f;-mavx512bf16;-mavx512vnni;${peak_quiet}")
  set_source_files_properties(x86/peak_amx.cpp PROPERTIES COMPILE_OPTIONS "-mamx-tile;-mamx-bf16;-mamx-int8")
elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
  list(APPEND kernel_sources arm/peak_neon.cpp)
endif()
