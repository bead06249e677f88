// pthread_cancel: inside a call it waits, and acts when the call is over; a thread of the library's is not to be cancelled. Log callbacks
// run inside calls, so what they do is no cancellation point either. And what comes of pthread_exit in a callback.

#define _DEFAULT_SOURCE // struct addrinfo
#include "events.h"
#include "gateway.h"
#include "resolver.h"

#include <sys/resource.h>
#include <sys/wait.h>

// In place of the C library's: no name has an address.
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
	struct in_addr address;
	return resolver_knows(node, hints, &address) ? resolver_result(address, service, hints, result) : EAI_NONAME;
}

static int heard;

// A cancellation point. So is what writes to standard output.
static void log_and_test(plum_log_level_t level, const char *message) {
	(void)level;
	(void)message;
	++heard;
	pthread_testcancel();
}

static plum_config_t verbose_config(plum_log_callback_t log_callback) {
	plum_config_t config = test_config();
	config.log_level = PLUM_LOG_LEVEL_VERBOSE;
	config.log_callback = log_callback;
	config.dummytls_domain = "cancel.test";
	return config;
}

// --- a thread that is to be cancelled at the next chance ---

typedef struct {
	void (*body)(void *argument);
	void *argument;
	int came_to_its_end;
} victim_t;

static void *cancel_and_call(void *argument) {
	victim_t *victim = argument;
	CHECK(pthread_cancel(pthread_self()) == 0);
	victim->body(victim->argument);
	victim->came_to_its_end = 1;
	pthread_testcancel();
	return NULL;
}

// The body runs to its end, then the thread is cancelled.
static void expect_cancelled_after(void (*body)(void *argument), void *argument) {
	victim_t victim = {body, argument, 0};
	pthread_t thread;
	void *result;
	CHECK(pthread_create(&thread, NULL, cancel_and_call, &victim) == 0);
	CHECK(pthread_join(thread, &result) == 0);
	CHECK_INT(victim.came_to_its_end, 1);
	CHECK(result == PTHREAD_CANCELED);
}

static int id;

static void call_init(void *argument) {
	plum_config_t config = verbose_config(*(plum_log_callback_t *)argument);
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	CHECK_INT(plum_init(&config), PLUM_ERR_FAILED);
}

static void call_create(void *unused) {
	(void)unused;
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_TCP, 7000);
	id = plum_create_mapping(&mapping, record_event);
	CHECK(id >= 0);
}

static void call_those_that_ask(void *unused) {
	(void)unused;
	char buffer[PLUM_MAX_HOST_LEN];
	CHECK_INT(plum_query_mapping(id, NULL, NULL), PLUM_ERR_SUCCESS);
	plum_get_local_address(buffer, sizeof(buffer));
	CHECK_INT(plum_get_dummytls_certificate(PLUM_DUMMYTLS_PEM_CERT, buffer, sizeof(buffer)), PLUM_ERR_NOT_AVAIL);
	CHECK_INT(plum_get_dummytls_host("198.51.100.7", buffer, sizeof(buffer)), 12);
	plum_set_log_level(PLUM_LOG_LEVEL_VERBOSE);
}

static void call_destroy(void *unused) {
	(void)unused;
	CHECK_INT(plum_destroy_mapping(id), PLUM_ERR_SUCCESS);
}

static void call_cleanup(void *unused) {
	(void)unused;
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	CHECK_INT(plum_cleanup(), PLUM_ERR_FAILED);
}

static void every_call_comes_to_its_end(plum_log_callback_t log_callback) {
	expect_cancelled_after(call_init, &log_callback);
	for (int round = 0; round < 3; ++round) {
		expect_cancelled_after(call_create, NULL);
		wait_for_event(id, PLUM_STATE_SUCCESS);
		expect_cancelled_after(call_those_that_ask, NULL);
		if (round < 2) {
			expect_cancelled_after(call_destroy, NULL);
			wait_for_the_end_of(id);
		}
	}
	expect_cancelled_after(call_cleanup, NULL);
	CHECK_INT(gateway_mappings(), 0);
}

// --- a call that waits ---

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	int entered, may_return;
} callback = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void wait_for(const int *flag) {
	long long deadline_ms = check_now_ms() + CHECK_PATIENCE_MS;
	while (!*flag)
		CHECK(check_wait_until(&callback.changed, &callback.mutex, deadline_ms) || *flag);
}

static void wait_inside(int mapping_id, plum_state_t state, const plum_mapping_t *mapping) {
	record_event(mapping_id, state, mapping);
	if (state != PLUM_STATE_SUCCESS)
		return;
	pthread_mutex_lock(&callback.mutex);
	callback.entered = 1;
	pthread_cond_broadcast(&callback.changed);
	wait_for(&callback.may_return);
	pthread_mutex_unlock(&callback.mutex);
}

// A cancelled thread still waits in plum_destroy_mapping for the callback: afterwards the callback is over.
static void *destroy_and_clean_up(void *unused) {
	(void)unused;
	CHECK_INT(plum_destroy_mapping(id), PLUM_ERR_SUCCESS);
	CHECK_INT(callback.may_return, 1);
	call_cleanup(NULL);
	pthread_testcancel();
	return NULL;
}

static void a_call_that_waits_waits_on(void) {
	plum_config_t config = test_config();
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_TCP, 7001);
	pthread_t thread;
	void *result;
	check_condition_init(&callback.changed);
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	pthread_mutex_lock(&callback.mutex);
	id = plum_create_mapping(&mapping, wait_inside);
	CHECK(id >= 0);
	wait_for(&callback.entered);
	CHECK(pthread_create(&thread, NULL, destroy_and_clean_up, NULL) == 0);
	while (queried_state(id) != PLUM_STATE_DESTROYING)
		sched_yield();
	CHECK(pthread_cancel(thread) == 0);
	callback.may_return = 1;
	pthread_cond_broadcast(&callback.changed);
	pthread_mutex_unlock(&callback.mutex);
	CHECK(pthread_join(thread, &result) == 0);
	CHECK(result == PTHREAD_CANCELED);
}

// --- the worker ---

static void cancel_the_worker(int mapping_id, plum_state_t state, const plum_mapping_t *mapping) {
	CHECK(pthread_cancel(pthread_self()) == 0);
	pthread_testcancel();
	record_event(mapping_id, state, mapping);
}

static void the_worker_works_on(void) {
	plum_config_t config = verbose_config(log_and_test);
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_UDP, 7002);
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	for (int i = 0; i < 2; ++i) {
		id = plum_create_mapping(&mapping, cancel_the_worker);
		CHECK(id >= 0);
		wait_for_event(id, PLUM_STATE_SUCCESS);
	}
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	CHECK_INT(gateway_mappings(), 0);
}

// --- pthread_exit in a callback ---

static void exit_the_worker(int mapping_id, plum_state_t state, const plum_mapping_t *mapping) {
	(void)mapping_id;
	(void)state;
	(void)mapping;
	pthread_exit(NULL);
}

static void map_and_exit(void *unused) {
	(void)unused;
	plum_config_t config = test_config();
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_UDP, 7003);
	plum_init(&config);
	plum_create_mapping(&mapping, exit_the_worker);
	for (;;)
		pause();
}

static void log_and_exit(plum_log_level_t level, const char *message) {
	(void)level;
	(void)message;
	pthread_exit(NULL);
}

static void init_and_exit(void *unused) {
	(void)unused;
	plum_config_t config = verbose_config(log_and_exit);
	plum_init(&config);
}

// With glibc, whose pthread_exit unwinds.
static void expect_abort_of(void (*body)(void *argument)) {
#ifdef __GLIBC__
	const struct rlimit no_core = {0, 0};
	int status;
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		check_time_limit(100);
		CHECK(setrlimit(RLIMIT_CORE, &no_core) == 0);
		CHECK(freopen("/dev/null", "w", stderr) != NULL); // there glibc says why
		body(NULL);
		_exit(3);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK(WIFSIGNALED(status));
	CHECK_INT(WTERMSIG(status), SIGABRT);
	gateway_command("restart-without-memory");
#else
	(void)body;
#endif
}

static void exit_in_a_callback_aborts(void) {
	expect_abort_of(map_and_exit);
	expect_abort_of(init_and_exit);
}

static void every_call_is_finished_with_a_log_callback(void) {
	every_call_comes_to_its_end(log_and_test);
	CHECK(heard > 0);
}

static void every_call_is_finished_without(void) {
	every_call_comes_to_its_end(NULL);
}

static void the_state_of_the_caller_is_kept(void) {
	int old;
	CHECK(pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &old) == 0);
	CHECK_INT(old, PTHREAD_CANCEL_ENABLE);
	plum_query_mapping(id, NULL, NULL);
	CHECK(pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &old) == 0);
	CHECK_INT(old, PTHREAD_CANCEL_DISABLE);
}

static const row_t rows[] = {
    ROW(exit_in_a_callback_aborts),
    ROW(every_call_is_finished_with_a_log_callback),
    ROW(every_call_is_finished_without),
    ROW(a_call_that_waits_waits_on),
    ROW(the_worker_works_on),
    ROW(the_state_of_the_caller_is_kept),
};

int main(void) {
	check_time_limit(200);
	events_init();
	CHECK(setenv("PLUM_ON_CLEANUP", "remove", 1) == 0);
	CHECK_ROWS(rows);
	check_all_destroyed_once();
	return 0;
}
