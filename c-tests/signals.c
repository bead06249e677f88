// Signals without end, on every thread that takes them, with handlers that restart no system call: everything works, no
// signal reaches a thread of the library's, no call changes the caller's mask, and nothing raises SIGPIPE.
//
// Names and certificates come from a resolver and a server of the test's own, as in dummytls.c; the server is slow, so
// that callers wait for it in the kernel.

#define _DEFAULT_SOURCE // syscall, setitimer, struct addrinfo
#include "events.h"
#include "gateway.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>

#define DOMAIN "signals.test"

enum { STORM_INTERVAL_US = 300, ROUNDS = 4, MAPPINGS = 8, SIGNALS_SEEN_MIN = 100 };

// --- the storm ---

static __thread int is_program; // whether this thread is one of the program's that take signals
static volatile sig_atomic_t storm_signals;
static volatile sig_atomic_t broken_pipes;

static void on_storm(int signal_number) {
	static const char message[] = "failed: a signal on a thread that is not the program's\n";
	(void)signal_number;
	if (!is_program) {
		if (write(STDERR_FILENO, message, sizeof(message) - 1) < 0)
			_exit(2);
		_exit(1);
	}
	++storm_signals;
}

static void on_broken_pipe(int signal_number) {
	(void)signal_number;
	++broken_pipes;
}

static void handle(int signal_number, void (*handler)(int)) {
	struct sigaction action;
	memset(&action, 0, sizeof(action)); // no SA_RESTART
	action.sa_handler = handler;
	CHECK(sigaction(signal_number, &action, NULL) == 0);
}

static void set_storm(int interval_us) {
	struct itimerval timer = {{0, interval_us}, {0, interval_us}};
	CHECK(setitimer(ITIMER_REAL, &timer, NULL) == 0);
	CHECK(setitimer(ITIMER_PROF, &timer, NULL) == 0);
}

static sigset_t block_all(void) {
	sigset_t all, old;
	sigfillset(&all);
	CHECK(pthread_sigmask(SIG_SETMASK, &all, &old) == 0);
	return old;
}

static void set_mask(const sigset_t *mask) {
	CHECK(pthread_sigmask(SIG_SETMASK, mask, NULL) == 0);
}

// A thread that takes no signals: what it does is not under test.
static pthread_t start_undisturbed(void *(*body)(void *)) {
	pthread_t thread;
	sigset_t old = block_all();
	CHECK(pthread_create(&thread, NULL, body, NULL) == 0);
	set_mask(&old);
	return thread;
}

// In place of check_time_limit, whose SIGALRM is part of the storm.
static void *limit_time(void *unused) {
	(void)unused;
	sleep(200);
	check_failed(__FILE__, __LINE__, "the test's time is up");
	return NULL;
}

// --- the resolver and the certificate server ---

static void check_mask_is_full(void);

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
	(void)service;
	check_mask_is_full();
	struct timespec pause = {0, 20 * 1000 * 1000};
	CHECK(nanosleep(&pause, NULL) == 0);
	struct found {
		struct addrinfo info;
		struct sockaddr_in address;
	} *found = calloc(1, sizeof(*found));
	CHECK(found != NULL && node != NULL);
	found->address.sin_family = AF_INET;
	found->address.sin_addr.s_addr = inet_addr(strcmp(node, DOMAIN) == 0 ? "127.0.0.1" : "198.51.100.7");
	found->info.ai_family = AF_INET;
	found->info.ai_socktype = hints != NULL && hints->ai_socktype != 0 ? hints->ai_socktype : SOCK_STREAM;
	found->info.ai_addrlen = sizeof(found->address);
	found->info.ai_addr = (struct sockaddr *)&found->address;
	*result = &found->info;
	return 0;
}

void freeaddrinfo(struct addrinfo *info) {
	free(info);
}

static int listener;
static struct sockaddr_in server_address;

int connect(int descriptor, const struct sockaddr *address, socklen_t length) {
	struct sockaddr_in to;
	if (address->sa_family == AF_INET) {
		memcpy(&to, address, sizeof(to));
		if (to.sin_port == htons(80))
			return (int)syscall(SYS_connect, descriptor, &server_address, sizeof(server_address));
	}
	return (int)syscall(SYS_connect, descriptor, address, length);
}

// Every second connection is closed at once, unread: whoever writes to it gets a reset, and would get SIGPIPE.
static void *serve(void *unused) {
	static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 54\r\nConnection: close\r\n\r\n"
	                             "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";
	(void)unused;
	for (int number = 0;; ++number) {
		int connection = accept(listener, NULL, NULL);
		if (connection < 0)
			return NULL; // the test is over
		struct linger reset = {1, 0};
		if (number % 2 == 0) {
			CHECK(setsockopt(connection, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) == 0);
			close(connection);
			continue;
		}
		char request[512];
		size_t length = 0;
		while (length < sizeof(request) - 1 && (length < 4 || memcmp(request + length - 4, "\r\n\r\n", 4) != 0)) {
			ssize_t count = recv(connection, request + length, sizeof(request) - 1 - length, 0);
			CHECK(count > 0);
			length += (size_t)count;
		}
		for (size_t i = 0; i < sizeof(answer) - 1; ++i) {
			struct timespec pause = {0, 2 * 1000 * 1000};
			nanosleep(&pause, NULL);
			CHECK(send(connection, answer + i, 1, MSG_NOSIGNAL) == 1);
		}
		close(connection);
	}
}

static void open_server(void) {
	socklen_t length = sizeof(server_address);
	listener = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(listener >= 0);
	server_address.sin_family = AF_INET;
	server_address.sin_addr.s_addr = inet_addr("127.0.0.1");
	CHECK(bind(listener, (struct sockaddr *)&server_address, length) == 0);
	CHECK(getsockname(listener, (struct sockaddr *)&server_address, &length) == 0);
	CHECK(listen(listener, 8) == 0);
}

// --- masks ---

// The signals that no thread can block: SIGKILL, SIGSTOP, and the C library's own two or three.
static int is_blockable(int signal_number) {
	return signal_number != SIGKILL && signal_number != SIGSTOP && (signal_number < 32 || signal_number >= SIGRTMIN);
}

static void check_mask_is_full(void) {
	sigset_t mask;
	CHECK(pthread_sigmask(SIG_SETMASK, NULL, &mask) == 0);
	for (int number = 1; number <= 64; ++number)
		CHECK(!is_blockable(number) || sigismember(&mask, number) == 1);
}

static unsigned long long mask_in(const char *status, const char *field) {
	const char *line = strstr(status, field);
	CHECK(line != NULL);
	return strtoull(line + strlen(field), NULL, 16);
}

// The worker's mask is full, and no signal waits for it, as the kernel tells it. Under a tool that stands between the two
// (PLUM_TEST_SLOWNESS), it tells of the tool's.
static void check_worker(void) {
	if (getenv("PLUM_TEST_SLOWNESS") != NULL)
		return;
	int workers = 0;
	DIR *tasks = opendir("/proc/self/task");
	CHECK(tasks != NULL);
	for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
		char path[300], status[4096];
		snprintf(path, sizeof(path), "/proc/self/task/%s/status", task->d_name);
		FILE *file = fopen(path, "r");
		if (task->d_name[0] == '.' || file == NULL)
			continue; // it may have ended
		status[fread(status, 1, sizeof(status) - 1, file)] = '\0';
		fclose(file);
		if (strncmp(status, "Name:\tplum\n", 11) != 0)
			continue;
		++workers;
		unsigned long long blocked = mask_in(status, "SigBlk:\t");
		for (int number = 1; number <= 64; ++number)
			CHECK(!is_blockable(number) || (blocked >> (number - 1) & 1));
		CHECK_INT(mask_in(status, "SigPnd:\t"), 0); // a SIGPIPE would wait here
	}
	closedir(tasks);
	CHECK_INT(workers, 1);
}

// --- everything, again and again ---

static sigset_t expected_mask;

// What a call of the library returned, the mask being as it was before.
static int unchanged(int result) {
	sigset_t mask;
	CHECK(pthread_sigmask(SIG_SETMASK, NULL, &mask) == 0);
	for (int number = 1; number <= 64; ++number)
		CHECK_INT(sigismember(&mask, number), sigismember(&expected_mask, number));
	return result;
}

static void quiet_log(plum_log_level_t level, const char *message) {
	(void)level;
	(void)message;
}

static void live_once(const char *local_address) {
	char buffer[PLUM_MAX_HOST_LEN] = "";
	plum_config_t config = test_config();
	config.log_level = PLUM_LOG_LEVEL_VERBOSE;
	config.log_callback = quiet_log;
	config.dummytls_domain = DOMAIN;
	config.recheck_period = 100;
	CHECK_INT(unchanged(plum_init(&config)), PLUM_ERR_SUCCESS);
	int ids[MAPPINGS];
	for (int i = 0; i < MAPPINGS; ++i)
		ids[i] = unchanged(create_recorded(PLUM_IP_PROTOCOL_UDP, 9700 + i));
	for (int i = 0; i < MAPPINGS; ++i)
		wait_for_event(ids[i], PLUM_STATE_SUCCESS);
	sigset_t old = block_all(); // a directory and files are read, which is the test's business
	check_worker();
	set_mask(&old);

	unchanged(plum_get_local_address(buffer, sizeof(buffer)));
	CHECK_STRING(buffer, local_address);
	CHECK(unchanged(plum_get_dummytls_host("198.51.100.7", buffer, sizeof(buffer))) > 0);
	CHECK_STRING(buffer, "198-51-100-7." DOMAIN);
	CHECK_INT(unchanged(plum_get_dummytls_certificate(PLUM_DUMMYTLS_PEM_CERT, buffer, sizeof(buffer))),
	          PLUM_ERR_NOT_AVAIL);
	CHECK_INT(unchanged(plum_get_dummytls_certificate(PLUM_DUMMYTLS_PEM_CERT, buffer, sizeof(buffer))), 54);
	CHECK(strstr(buffer, "END CERTIFICATE") != NULL);

	for (int i = 0; i < MAPPINGS / 2; ++i) {
		CHECK_INT(unchanged(plum_destroy_mapping(ids[i])), PLUM_ERR_SUCCESS);
		int result = unchanged(plum_query_mapping(ids[i], NULL, NULL));
		CHECK(result == PLUM_ERR_SUCCESS || result == PLUM_ERR_NOT_AVAIL);
	}
	CHECK_INT(unchanged(plum_cleanup()), PLUM_ERR_SUCCESS);
	CHECK_INT(unchanged(plum_cleanup()), PLUM_ERR_FAILED);
	for (int i = 0; i < MAPPINGS; ++i)
		CHECK_INT(count_events(ids[i], PLUM_STATE_DESTROYED), 1);
	CHECK_INT(broken_pipes, 0);
}

int main(void) {
	events_init();
	is_program = 1;
	handle(SIGALRM, on_storm);
	handle(SIGPROF, on_storm);
	handle(SIGPIPE, on_broken_pipe);
	pthread_t limit = start_undisturbed(limit_time);
	open_server();
	pthread_t server = start_undisturbed(serve);
	char local_address[PLUM_MAX_ADDRESS_LEN] = "";
	plum_get_local_address(local_address, sizeof(local_address));

	// Under a tool that is slow a handler must not take longer than the time to the next signal.
	set_storm((int)check_stretched_ms(STORM_INTERVAL_US));
	CHECK(pthread_sigmask(SIG_SETMASK, NULL, &expected_mask) == 0);
	for (int round = 0; round < ROUNDS; ++round)
		live_once(local_address);
	CHECK(storm_signals >= SIGNALS_SEEN_MIN);

	// A program that blocks them all.
	block_all();
	CHECK(pthread_sigmask(SIG_SETMASK, NULL, &expected_mask) == 0);
	live_once(local_address);
	sigset_t pending;
	CHECK(sigpending(&pending) == 0);
	CHECK_INT(sigismember(&pending, SIGPIPE), 0);
	set_storm(0);

	check_all_destroyed_once();
	CHECK(pthread_cancel(limit) == 0);
	CHECK(pthread_join(limit, NULL) == 0);
	CHECK(shutdown(listener, SHUT_RDWR) == 0);
	CHECK(pthread_join(server, NULL) == 0);
	close(listener);
	return 0;
}
