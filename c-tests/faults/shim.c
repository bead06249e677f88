#include "shim.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>

// dlfcn.h has it only with all extensions of GNU, where sendto has arguments that no function of ISO C can have.
#ifndef RTLD_NEXT
#define RTLD_NEXT ((void *)-1L)
#endif

// --- the faults ---

static struct {
	pthread_mutex_t mutex;
	int error[CALL_COUNT];
	int times[CALL_COUNT]; // how often still; negative: always
	int failures[CALL_COUNT];
	pthread_t program;
	int knows_program;
	long long shift_ms[CLOCK_BOOTTIME + 1];
	struct timespec frozen[CLOCK_BOOTTIME + 1];
	int is_frozen;
	long long shake_ms;
	unsigned int looks;
	int timer; // the library's last one
	long long wake_ups;
	pthread_cond_t woken;
} faults = {.mutex = PTHREAD_MUTEX_INITIALIZER, .timer = -1};

static int is_program(void) {
	return !faults.knows_program || pthread_equal(pthread_self(), faults.program);
}

// Whether a call is to fail; sets errno then. Some belong to plum_init, and so to the program's thread.
static int fails(call_t call) {
	pthread_mutex_lock(&faults.mutex);
	int error = faults.times[call] == 0 ? 0 : faults.error[call];
	if (error != 0) {
		++faults.failures[call];
		if (faults.times[call] > 0)
			--faults.times[call];
	}
	pthread_mutex_unlock(&faults.mutex);
	if (error != 0)
		errno = error;
	return error != 0;
}

void fail_times(call_t call, int error, int times) {
	pthread_mutex_lock(&faults.mutex);
	faults.error[call] = error;
	faults.times[call] = times;
	faults.failures[call] = 0;
	pthread_mutex_unlock(&faults.mutex);
}

void fail(call_t call, int error) {
	fail_times(call, error, error != 0 ? -1 : 0);
}

int failures(call_t call) {
	pthread_mutex_lock(&faults.mutex);
	int count = faults.failures[call];
	pthread_mutex_unlock(&faults.mutex);
	return count;
}

// The next function of this name: the C library's.
static void *next_function(const char *name) {
	void *function = dlsym(RTLD_NEXT, name);
	if (function == NULL)
		abort();
	return function;
}

// ISO C has no way from a pointer to an object to one to a function; POSIX has this one.
#define REAL(function) \
	static __typeof__(&function) real; \
	if (real == NULL) \
		*(void **)&real = next_function(#function)

int epoll_create1(int flags) {
	REAL(epoll_create1);
	return fails(CALL_EPOLL) ? -1 : real(flags);
}

int epoll_wait(int descriptor, struct epoll_event *events, int size, int timeout_ms) {
	REAL(epoll_wait);
	int result = real(descriptor, events, size, timeout_ms);
	int error = errno;
	pthread_mutex_lock(&faults.mutex);
	++faults.wake_ups;
	if (faults.knows_program)
		pthread_cond_broadcast(&faults.woken);
	pthread_mutex_unlock(&faults.mutex);
	errno = error;
	return result;
}

int eventfd(unsigned int value, int flags) {
	REAL(eventfd);
	return fails(CALL_EVENTFD) ? -1 : real(value, flags);
}

int timerfd_create(clockid_t clock, int flags) {
	REAL(timerfd_create);
	if (fails(CALL_TIMERFD))
		return -1;
	int timer = real(clock, flags);
	pthread_mutex_lock(&faults.mutex);
	faults.timer = timer;
	pthread_mutex_unlock(&faults.mutex);
	return timer;
}

ssize_t getrandom(void *buffer, size_t length, unsigned int flags) {
	REAL(getrandom);
	return fails(CALL_GETRANDOM) ? -1 : real(buffer, length, flags);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
	REAL(pthread_create);
	return fails(CALL_THREAD) ? errno : real(thread, attributes, run, argument);
}

static int option_of(int descriptor, int option) {
	int value = -1;
	socklen_t length = sizeof(value);
	return getsockopt(descriptor, SOL_SOCKET, option, &value, &length) == 0 ? value : -1;
}

static int is_udp(int descriptor) {
	int type = option_of(descriptor, SO_TYPE), domain = option_of(descriptor, SO_DOMAIN);
	return type == SOCK_DGRAM && (domain == AF_INET || domain == AF_INET6);
}

// Which kind of reading this is; CALL_COUNT: none that can fail.
static call_t reading(int descriptor) {
	if (is_udp(descriptor))
		return CALL_UDP_RECV;
	if (option_of(descriptor, SO_DOMAIN) != AF_NETLINK)
		return CALL_COUNT;
	// Routes are asked for with a socket that waits.
	int flags = fcntl(descriptor, F_GETFL);
	return flags & O_NONBLOCK ? CALL_NETLINK_RECV : CALL_ROUTE_RECV;
}

ssize_t send(int descriptor, const void *bytes, size_t length, int flags) {
	REAL(send);
	return !is_program() && is_udp(descriptor) && fails(CALL_UDP_SEND) ? -1 : real(descriptor, bytes, length, flags);
}

ssize_t sendto(int descriptor, const void *bytes, size_t length, int flags, const struct sockaddr *to,
               socklen_t to_length) {
	REAL(sendto);
	return !is_program() && is_udp(descriptor) && fails(CALL_UDP_SEND)
	           ? -1
	           : real(descriptor, bytes, length, flags, to, to_length);
}

ssize_t recv(int descriptor, void *bytes, size_t length, int flags) {
	REAL(recv);
	call_t call = is_program() ? CALL_COUNT : reading(descriptor);
	return call != CALL_COUNT && fails(call) ? -1 : real(descriptor, bytes, length, flags);
}

ssize_t recvfrom(int descriptor, void *bytes, size_t length, int flags, struct sockaddr *from, socklen_t *from_length) {
	REAL(recvfrom);
	call_t call = is_program() ? CALL_COUNT : reading(descriptor);
	return call != CALL_COUNT && fails(call) ? -1 : real(descriptor, bytes, length, flags, from, from_length);
}

ssize_t recvmsg(int descriptor, struct msghdr *message, int flags) {
	REAL(recvmsg);
	call_t call = is_program() ? CALL_COUNT : reading(descriptor);
	return call != CALL_COUNT && fails(call) ? -1 : real(descriptor, message, flags);
}

// --- the clocks ---

static void add_ms(struct timespec *time, long long ms) {
	long long ns = time->tv_nsec + ms % 1000 * 1000000;
	time->tv_sec += (time_t)(ms / 1000);
	if (ns < 0 || ns >= 1000000000) {
		time->tv_sec += ns < 0 ? -1 : 1;
		ns += ns < 0 ? 1000000000 : -1000000000;
	}
	time->tv_nsec = (long)ns;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
	REAL(clock_gettime);
	int result = real(clock, time);
	if (result != 0 || is_program() || clock < 0 || clock > CLOCK_BOOTTIME)
		return result;
	pthread_mutex_lock(&faults.mutex);
	if (faults.is_frozen) {
		// Each stands still from its first look.
		if (faults.frozen[clock].tv_sec == 0)
			faults.frozen[clock] = *time;
		*time = faults.frozen[clock];
	} else {
		add_ms(time, faults.shift_ms[clock]);
	}
	if (faults.shake_ms != 0 && ++faults.looks % 2 == 0)
		add_ms(time, -faults.shake_ms);
	pthread_mutex_unlock(&faults.mutex);
	return 0;
}

void shift_clock(clockid_t clock, long long ms) {
	pthread_mutex_lock(&faults.mutex);
	faults.shift_ms[clock] = ms;
	pthread_mutex_unlock(&faults.mutex);
}

void freeze_clocks(int frozen) {
	pthread_mutex_lock(&faults.mutex);
	faults.is_frozen = frozen;
	memset(faults.frozen, 0, sizeof(faults.frozen));
	pthread_mutex_unlock(&faults.mutex);
}

void shake_clocks(long long ms) {
	pthread_mutex_lock(&faults.mutex);
	faults.shake_ms = ms;
	pthread_mutex_unlock(&faults.mutex);
}

void wake_timer(void) {
	pthread_mutex_lock(&faults.mutex);
	int timer = faults.timer;
	pthread_mutex_unlock(&faults.mutex);
	CHECK(timer >= 0);
	struct itimerspec at_once;
	memset(&at_once, 0, sizeof(at_once));
	at_once.it_value.tv_nsec = 1;
	CHECK(timerfd_settime(timer, 0, &at_once, NULL) == 0);
}

// --- descriptors ---

// New ones have numbers below this then. More than the library and these programs have of their own.
#define DESCRIPTORS 64

static struct {
	struct rlimit limit; // as it was
	int list[DESCRIPTORS];
	int count;
} taken;

void take_descriptors(int left) {
	CHECK(taken.count == 0);
	CHECK(getrlimit(RLIMIT_NOFILE, &taken.limit) == 0);
	struct rlimit limit = taken.limit;
	limit.rlim_cur = DESCRIPTORS;
	CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	for (;;) {
		int descriptor = open("/dev/null", O_RDONLY | O_CLOEXEC);
		if (descriptor < 0)
			break;
		CHECK(taken.count < DESCRIPTORS);
		taken.list[taken.count++] = descriptor;
	}
	CHECK_INT(errno, EMFILE);
	CHECK(taken.count >= left);
	for (int i = 0; i < left; ++i)
		close(taken.list[--taken.count]);
}

void give_descriptors(void) {
	while (taken.count > 0)
		close(taken.list[--taken.count]);
	CHECK(setrlimit(RLIMIT_NOFILE, &taken.limit) == 0);
}

static int count_entries(const char *path) {
	int count = 0;
	DIR *folder = opendir(path);
	CHECK(folder != NULL);
	for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder))
		count += entry->d_name[0] != '.';
	closedir(folder);
	return count;
}

int count_descriptors(void) {
	return count_entries("/proc/self/fd");
}

int count_threads(void) {
	return count_entries("/proc/self/task");
}

// --- the worker ---

// The first line of a file of a task that begins with `start`, without that; 0: no such file or line.
static int read_task(const char *task, const char *file, const char *start, char *rest, int size) {
	char path[300], line[300];
	snprintf(path, sizeof(path), "/proc/self/task/%.20s/%s", task, file);
	FILE *stream = fopen(path, "re");
	if (stream == NULL)
		return 0;
	int found = 0;
	while (!found && fgets(line, sizeof(line), stream) != NULL)
		found = strncmp(line, start, strlen(start)) == 0;
	fclose(stream);
	if (found)
		snprintf(rest, (size_t)size, "%s", line + strlen(start));
	return found;
}

// The end of the waits, not the system's switches from one thread to another: those come of this program's locks too.
static long long count_wake_ups(void) {
	pthread_mutex_lock(&faults.mutex);
	long long count = faults.wake_ups;
	pthread_mutex_unlock(&faults.mutex);
	return count;
}

void wait_for_wake_ups(int number) {
	long long deadline_ms = check_now_ms() + CHECK_PATIENCE_MS;
	pthread_mutex_lock(&faults.mutex);
	for (long long end = faults.wake_ups + number; faults.wake_ups < end;)
		CHECK(check_wait_until(&faults.woken, &faults.mutex, deadline_ms) || faults.wake_ups >= end);
	pthread_mutex_unlock(&faults.mutex);
}

work_t worker_work(void) {
	long long deadline_ms = check_now_ms() + CHECK_PATIENCE_MS;
	// A thread gives itself its name, soon after its start.
	while (check_now_ms() < deadline_ms) {
		DIR *folder = opendir("/proc/self/task");
		if (folder == NULL) { // no descriptor is left
			check_failed(__FILE__, __LINE__, "no descriptor to look at the worker");
		}
		for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
			char text[100];
			if (!read_task(entry->d_name, "comm", "plum\n", text, sizeof(text)))
				continue;
			work_t work;
			work.at_ms = check_now_ms();
			work.wake_ups = count_wake_ups();
			CHECK(read_task(entry->d_name, "schedstat", "", text, sizeof(text)));
			work.processor_us = atoll(text) / 1000;
			closedir(folder);
			return work;
		}
		closedir(folder);
	}
	check_failed(__FILE__, __LINE__, "there is no worker");
	return (work_t){0, 0, 0};
}

void check_little_work(work_t before, int wake_ups_max) {
	work_t after = worker_work();
	long long wake_ups = after.wake_ups - before.wake_ups;
	long long processor_us = after.processor_us - before.processor_us;
	// Where this program had to wait for a processor, the worker has had more time.
	wake_ups_max *= 1 + (int)((after.at_ms - before.at_ms) / 10000);
	// A turn takes some 20 microseconds, on a busy machine several times that.
	if (wake_ups > wake_ups_max || processor_us > 50000 + 1000LL * wake_ups_max)
		check_failed(__FILE__, __LINE__, "the worker woke up %lld times and worked for %lld us", wake_ups, processor_us);
}

// --- the log ---

#define LOG_MAX 20000

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	int count;
	plum_log_level_t levels[LOG_MAX];
	char texts[LOG_MAX][200];
} logged = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void record_log(plum_log_level_t level, const char *text) {
	pthread_mutex_lock(&logged.mutex);
	CHECK(logged.count < LOG_MAX);
	logged.levels[logged.count] = level;
	snprintf(logged.texts[logged.count++], sizeof(logged.texts[0]), "%s", text);
	pthread_cond_broadcast(&logged.changed);
	pthread_mutex_unlock(&logged.mutex);
}

plum_config_t faults_config(void) {
	if (!faults.knows_program) {
		check_condition_init(&logged.changed);
		check_condition_init(&faults.woken);
		faults.program = pthread_self();
		faults.knows_program = 1;
	}
	plum_config_t config;
	memset(&config, 0, sizeof(config));
	config.log_level = PLUM_LOG_LEVEL_DEBUG;
	config.log_callback = record_log;
	return config;
}

void forget_log(void) {
	pthread_mutex_lock(&logged.mutex);
	logged.count = 0;
	pthread_mutex_unlock(&logged.mutex);
}

static int count_log_locked(plum_log_level_t level, const char *text, const char *other) {
	int count = 0;
	for (int i = 0; i < logged.count; ++i)
		count += logged.levels[i] == level && strstr(logged.texts[i], text) != NULL &&
		         strstr(logged.texts[i], other) != NULL;
	return count;
}

int count_log(plum_log_level_t level, const char *text, const char *other) {
	pthread_mutex_lock(&logged.mutex);
	int count = count_log_locked(level, text, other);
	pthread_mutex_unlock(&logged.mutex);
	return count;
}

void wait_for_log(plum_log_level_t level, const char *text, const char *other, int number) {
	long long deadline_ms = check_now_ms() + CHECK_PATIENCE_MS;
	pthread_mutex_lock(&logged.mutex);
	while (count_log_locked(level, text, other) < number) {
		if (!check_wait_until(&logged.changed, &logged.mutex, deadline_ms) &&
		    count_log_locked(level, text, other) < number) {
			for (int i = 0; i < logged.count; ++i)
				fprintf(stderr, "log %d: %s\n", (int)logged.levels[i], logged.texts[i]);
			check_failed(__FILE__, __LINE__, "nobody said \"%s\" and \"%s\" %d times", text, other, number);
		}
	}
	pthread_mutex_unlock(&logged.mutex);
}
