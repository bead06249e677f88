// Faults of the system. The library asks the C library for sockets, threads and the time; these programs bring such
// functions of their own, which come before the C library's, and fail when they are told to.
//
// Include it first, then events.h. Everything is for the main thread, whose own calls never fail.

#ifndef PLUM_TEST_FAULTS_H
#define PLUM_TEST_FAULTS_H

#define _DEFAULT_SOURCE // setgid, RLIMIT_AS, struct addrinfo
#include "../check.h"

#include <errno.h>
#include <plum/plum.h>

typedef enum {
	CALL_EPOLL,        // epoll_create1
	CALL_EVENTFD,      // eventfd
	CALL_TIMERFD,      // timerfd_create
	CALL_GETRANDOM,    // getrandom
	CALL_THREAD,       // pthread_create
	CALL_UDP_SEND,     // send and sendto of UDP sockets
	CALL_UDP_RECV,     // recv, recvfrom and recvmsg of UDP sockets
	CALL_NETLINK_RECV, // recvfrom of the socket that tells of changes of the network
	CALL_ROUTE_RECV,   // recvfrom of sockets that routes are asked by
	CALL_COUNT
} call_t;

// From now on these calls fail with this error; 0: they work again.
void fail(call_t call, int error);

// The next so many of these calls fail.
void fail_times(call_t call, int error, int times);

// How many have failed since `fail`.
int failures(call_t call);

// From now on a clock (CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME) is so much ahead of the real one.
void shift_clock(clockid_t clock, long long ms);

// From now on all clocks stand still; 0: they go on, from where they are in truth.
void freeze_clocks(int frozen);

// From now on all clocks go back by so much with every second look, and on again with every other.
void shake_clocks(long long ms);

// What the kernel does when the wall clock is set or the machine wakes up: the library's timer becomes readable.
void wake_timer(void);

// --- descriptors ---

// Leaves this process so many free descriptors (RLIMIT_NOFILE), until `give_descriptors`.
void take_descriptors(int left);
void give_descriptors(void);

// --- what the library leaves ---

int count_descriptors(void);
int count_threads(void);

// --- what its worker does ---

typedef struct {
	long long wake_ups; // ends of its waits for input (epoll_wait)
	long long processor_us;
	long long at_ms; // of check_now_ms
} work_t;

work_t worker_work(void);

// Waits until it has woken up so often from now on.
void wait_for_wake_ups(int number);

// It has not kept busy since then, where that is seconds ago; for each ten seconds more it may wake up as often again.
void check_little_work(work_t before, int wake_ups_max);

// --- the log ---

// A configuration whose log is recorded, all levels but VERBOSE. To be called first.
plum_config_t faults_config(void);

// Forgets what was logged.
void forget_log(void);

// Waits until so many messages of this level have had both texts since `forget_log`.
void wait_for_log(plum_log_level_t level, const char *text, const char *other, int number);

// How many have.
int count_log(plum_log_level_t level, const char *text, const char *other);

#endif
