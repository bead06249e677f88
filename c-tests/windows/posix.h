// What the tests use of POSIX and Windows does not have. Threads, clocks and the like come with MinGW-w64 (winpthreads).

#ifndef PLUM_TEST_POSIX_H
#define PLUM_TEST_POSIX_H

#include <winsock2.h>
#include <ws2tcpip.h>
// After those, or it would bring an older one.
#include <windows.h>

#include <fcntl.h>
#include <io.h>
#include <process.h>
#include <stdint.h>

#ifndef STDOUT_FILENO
#define STDOUT_FILENO 1
#endif
#ifndef STDERR_FILENO
#define STDERR_FILENO 2
#endif

// Wine (as of 8.0) binds a UDP socket of a loopback address other than 127.0.0.1 to any address: what it sends comes from
// 127.0.0.1, and nothing else can have its port.
static inline int posix_is_wine(void) {
	return GetProcAddress(GetModuleHandleA("ntdll.dll"), "wine_get_version") != NULL;
}

static inline int setenv(const char *name, const char *value, int overwrite) {
	(void)overwrite;
	return _putenv_s(name, value);
}

static inline int unsetenv(const char *name) {
	return _putenv_s(name, "");
}

// A program's alarm, which ends it.
static inline DWORD WINAPI posix_end_in_time(void *seconds) {
	Sleep((DWORD)(uintptr_t)seconds * 1000);
	static const char message[] = "failed: the test's time is up\n";
	if (_write(STDERR_FILENO, message, sizeof(message) - 1) < 0)
		_exit(2);
	_exit(1);
}

#endif
