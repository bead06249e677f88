// Children of a test, which use the library and say how that went.

#ifndef PLUM_TEST_FORK_H
#define PLUM_TEST_FORK_H

#include "events.h"
#include "gateway.h"

#include <poll.h>
#include <sys/wait.h>

// A child says this when all went well; else it ends with a message, and says nothing.
#define GOOD 'g'

// The pipe from a child to its parent.
typedef struct {
	int ends[2];
} report_t;

// To be called before a child is made that reports.
static inline report_t report_open(void) {
	report_t report;
	CHECK(pipe(report.ends) == 0);
	fflush(NULL);
	return report;
}

// In the child: all went well.
static inline void report_good(const report_t *report) {
	const char good = GOOD;
	CHECK(write(report->ends[1], &good, 1) == 1);
}

// In the parent: waits for the report, and no longer than a child of these tests can take.
static inline void report_expect(const report_t *report, pid_t pid) {
	struct pollfd end = {.fd = report->ends[0], .events = POLLIN};
	close(report->ends[1]);
	int ready = poll(&end, 1, (int)check_stretched_ms(3 * CHECK_PATIENCE_MS));
	char said = '?';
	if (ready == 1 && read(report->ends[0], &said, 1) == 1 && said == GOOD) {
		close(report->ends[0]);
		return;
	}
	kill(pid, SIGKILL);
	check_failed(__FILE__, __LINE__, "the child %s", ready == 1 ? "failed" : "hangs");
}

// Runs `body` in a child, made as by fork(2).
static inline void run_child_of(pid_t (*make)(void), void (*body)(void)) {
	report_t report = report_open();
	pid_t pid = make();
	CHECK(pid >= 0);
	if (pid == 0) {
		body();
		report_good(&report);
		// The child must not run the parent's exit handlers, nor a leak check over memory that belongs to threads it does not have.
		kill(getpid(), SIGKILL);
		_exit(0); // what has no process above it in its namespace is not killed by itself
	}
	report_expect(&report, pid);
	CHECK(waitpid(pid, NULL, 0) == pid);
}

static inline void run_child(void (*body)(void)) {
	run_child_of(fork, body);
}

// In a child: forgets what the parent was told of. Its worker may have been recording at the fork, with the lock held.
static inline void events_begin_anew(void) {
	static const pthread_mutex_t unlocked = PTHREAD_MUTEX_INITIALIZER;
	events.mutex = unlocked;
	events.count = 0;
	events.running = 0;
	events_init();
}

// In a child that begins without mappings: has one made, and gives back its id, which was never given out before.
static inline int map_in_child(int internal_port, int later_than) {
	events_begin_anew();
	int id = create_recorded(PLUM_IP_PROTOCOL_TCP, internal_port);
	CHECK(id > later_than);
	event_t success = wait_for_event(id, PLUM_STATE_SUCCESS);
	CHECK_STRING(success.mapping.external_host, gateway_external_address());
	return id;
}

// In a child: ends its session.
static inline void cleanup_in_child(int id) {
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	CHECK_INT(count_events(id, PLUM_STATE_DESTROYED), DESTROYED_EVENTS);
	CHECK_INT(plum_query_mapping(id, NULL, NULL), PLUM_ERR_FAILED);
	CHECK_INT(plum_cleanup(), PLUM_ERR_FAILED);
}

#endif
