// bcryptprimitives.dll for Wine 8.0, which has none: Rust's library gets its randomness from it. For tests alone; on Windows it is
// part of the system.

#include <windows.h>
// After that.
#include <ntsecapi.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE bytes, SIZE_T length) {
	return RtlGenRandom(bytes, (ULONG)length);
}
