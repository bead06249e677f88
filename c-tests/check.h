// The test harness: checks that print where they failed, a time limit for the whole program, a clock.
// Include it first: it selects the POSIX interfaces for all headers after it.

#ifndef PLUM_CHECK_H
#define PLUM_CHECK_H

#ifndef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif

#ifdef _WIN32
#include "windows/posix.h"
#endif

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// How long to wait for what must come. Long, for it is only waited out by a test that fails.
#define CHECK_PATIENCE_MS 20000

// The condition holds, or the program ends here with status 1.
#define CHECK(condition) ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, "%s", #condition))

// Two integers are equal; shows both when they are not.
#define CHECK_INT(actual, expected) check_int(__FILE__, __LINE__, #actual, (long long)(actual), (long long)(expected))

// Two strings are equal; shows both when they are not.
#define CHECK_STRING(actual, expected) check_string(__FILE__, __LINE__, #actual, (actual), (expected))

static inline void check_failed(const char *file, int line, const char *format, ...) {
	va_list arguments;
	va_start(arguments, format);
	fprintf(stderr, "%s:%d: failed: ", file, line);
	vfprintf(stderr, format, arguments);
	fprintf(stderr, "\n");
	va_end(arguments);
	fflush(NULL);
	// Not exit: another thread may be inside the library.
	_exit(1);
}

static inline void check_int(const char *file, int line, const char *what, long long actual, long long expected) {
	if (actual != expected)
		check_failed(file, line, "%s is %lld, expected %lld", what, actual, expected);
}

static inline void check_string(const char *file, int line, const char *what, const char *actual,
                                const char *expected) {
	if (strcmp(actual, expected) != 0)
		check_failed(file, line, "%s is \"%s\", expected \"%s\"", what, actual, expected);
}

// check_time_limit ends the program as failed after so many seconds, whatever it waits for. Call it first in main.
#ifdef _WIN32
static inline void check_time_limit(unsigned int seconds) {
	HANDLE thread = CreateThread(NULL, 0, posix_end_in_time, (void *)(uintptr_t)seconds, 0, NULL);
	CHECK(thread != NULL);
	CloseHandle(thread);
}
#else
static inline void check_timed_out(int signal_number) {
	static const char message[] = "failed: the test's time is up\n";
	(void)signal_number;
	if (write(STDERR_FILENO, message, sizeof(message) - 1) < 0)
		_exit(2);
	_exit(1);
}

static inline void check_time_limit(unsigned int seconds) {
	struct sigaction action;
	memset(&action, 0, sizeof(action));
	action.sa_handler = check_timed_out;
	CHECK(sigaction(SIGALRM, &action, NULL) == 0);
	alarm(seconds);
}
#endif

// The clock that conditions wait by: winpthreads has them wait by the time of day alone.
#ifdef _WIN32
#define CHECK_CONDITION_CLOCK CLOCK_REALTIME
#else
#define CHECK_CONDITION_CLOCK CLOCK_MONOTONIC
#endif

// Milliseconds on a clock that never goes back.
static inline long long check_now_ms(void) {
	struct timespec now;
	CHECK(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
	return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// A promised span of time, stretched where the program runs under a tool that slows it down (PLUM_TEST_SLOWNESS=10).
static inline long long check_stretched_ms(long long ms) {
	const char *slowness = getenv("PLUM_TEST_SLOWNESS");
	return slowness ? ms * atoi(slowness) : ms;
}

static inline void check_condition_init(pthread_cond_t *condition) {
	pthread_condattr_t attributes;
	CHECK(pthread_condattr_init(&attributes) == 0);
	CHECK(pthread_condattr_setclock(&attributes, CHECK_CONDITION_CLOCK) == 0);
	CHECK(pthread_cond_init(condition, &attributes) == 0);
	CHECK(pthread_condattr_destroy(&attributes) == 0);
}

// Waits on a condition of check_condition_init until a time of check_now_ms; 0 when that has passed.
static inline int check_wait_until(pthread_cond_t *condition, pthread_mutex_t *mutex, long long deadline_ms) {
	struct timespec deadline;
	CHECK(clock_gettime(CHECK_CONDITION_CLOCK, &deadline) == 0);
	long long left_ms = deadline_ms - check_now_ms() + deadline.tv_nsec / 1000000;
	deadline.tv_sec += (time_t)(left_ms / 1000);
	deadline.tv_nsec = (long)(left_ms % 1000) * 1000000;
	return pthread_cond_timedwait(condition, mutex, &deadline) == 0;
}

// --- rows ---

// One row of a program: a part of the contract that is tested by itself. A program runs all of its rows in one process. PLUM_TEST_ROW
// names the only one to run, or has them listed (`list`); c-tests/any uses that.
typedef struct {
	const char *name;
	void (*body)(void); // NULL: not for this ABI
} row_t;

#if PLUM_TEST_ABI >= 600
#define SINCE_600(body) body
#define BEFORE_600(body) NULL
#else
#define SINCE_600(body) NULL
#define BEFORE_600(body) body
#endif
#if PLUM_TEST_ABI >= 602
#define SINCE_602(body) body
#define BEFORE_602(body) NULL
#else
#define SINCE_602(body) NULL
#define BEFORE_602(body) body
#endif

#define ROW(body) {#body, body}
#define ROW_SINCE_600(body) {#body, SINCE_600(body)}
#define ROW_BEFORE_600(body) {#body, BEFORE_600(body)}
#define ROW_SINCE_602(body) {#body, SINCE_602(body)}
#define ROW_BEFORE_602(body) {#body, BEFORE_602(body)}

// Whether to run a row now. A list has a `-` before what is not for this ABI.
static inline int check_runs_row(const row_t *row) {
	const char *wanted = getenv("PLUM_TEST_ROW");
	if (wanted != NULL && strcmp(wanted, "list") == 0) {
		printf("%c %s\n", row->body != NULL ? '+' : '-', row->name);
		return 0;
	}
	return row->body != NULL && (wanted == NULL || strcmp(wanted, row->name) == 0);
}

#define CHECK_ROWS(rows) check_rows(rows, sizeof(rows) / sizeof((rows)[0]))

static inline void check_rows(const row_t *rows, size_t count) {
	for (size_t i = 0; i < count; ++i)
		if (check_runs_row(&rows[i]))
			rows[i].body();
}

#endif
