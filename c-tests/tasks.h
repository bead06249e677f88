// The threads of this process, on Linux.

#ifndef PLUM_TEST_TASKS_H
#define PLUM_TEST_TASKS_H

#include "check.h"

#include <dirent.h>

// How many threads this process has; an emulator may have some of its own.
static inline int count_threads(void) {
	DIR *tasks = opendir("/proc/self/task");
	int count = 0;
	CHECK(tasks != NULL);
	while (readdir(tasks) != NULL)
		++count;
	closedir(tasks);
	return count;
}

// Waits until no more than `count` are left. A leak checker would take the memory of a running thread for a leak.
static inline void wait_for_threads(int count) {
	long long deadline_ms = check_now_ms() + CHECK_PATIENCE_MS;
	while (count_threads() > count) {
		CHECK(check_now_ms() < deadline_ms);
		sched_yield();
	}
}

#endif
