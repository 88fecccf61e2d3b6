// The AMX tile code with its instructions emulated in plain C++, so that its logic is tested on every machine.
#define FATHOM_AMX_EMULATED
#include "kernels/x86/amx.cpp"
