// A program that ends while the library is at work: exit CASE
//
// It ends at once and with its own status, whichever thread ends it; exit handlers may clean up.

#include "events.h"

#include <sched.h>
#ifndef _WIN32
#include <sys/wait.h>
#endif

enum { STATUS = 7 };

static int expected_of_cleanup;

// An exit handler, as a C++ destructor of a static object would be.
static void clean_up(void) {
	if (plum_cleanup() != expected_of_cleanup)
		check_failed(__FILE__, __LINE__, "plum_cleanup did not return %d", expected_of_cleanup);
}

static void clean_up_at_exit(int expected) {
	expected_of_cleanup = expected;
	CHECK(atexit(clean_up) == 0);
}

static void init_with(plum_config_t config) {
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
}

// Waits for what another thread does: end the process.
static void wait_for_the_end(void) {
	sleep(CHECK_PATIENCE_MS / 1000);
	check_failed(__FILE__, __LINE__, "the process lives on");
}

static void while_pending(void) {
	init_with(test_config());
	for (int i = 0; i < 100; ++i)
		create_recorded(PLUM_IP_PROTOCOL_UDP, 9000 + i);
	exit(STATUS);
}

static void while_made(void) {
	init_with(test_config());
	wait_for_event(create_recorded(PLUM_IP_PROTOCOL_TCP, 9100), PLUM_STATE_SUCCESS);
	exit(STATUS);
}

static void with_a_handler_that_cleans_up(void) {
	clean_up_at_exit(PLUM_ERR_SUCCESS);
	init_with(test_config());
	wait_for_event(create_recorded(PLUM_IP_PROTOCOL_TCP, 9200), PLUM_STATE_SUCCESS);
	exit(STATUS);
}

static plum_state_t state_to_exit_in;

static void exit_in_callback(int id, plum_state_t state, const plum_mapping_t *mapping) {
	record_event(id, state, mapping);
	if (state == state_to_exit_in)
		exit(STATUS);
}

static int create_exiting(int port) {
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_TCP, port);
	int id = plum_create_mapping(&mapping, exit_in_callback);
	CHECK(id >= 0);
	return id;
}

// The handler runs on the worker, which cannot wait for itself.
static void in_a_callback(void) {
	clean_up_at_exit(PLUM_ERR_FAILED);
	state_to_exit_in = PLUM_STATE_SUCCESS;
	init_with(test_config());
	create_exiting(9300);
	wait_for_the_end();
}

#if PLUM_TEST_ABI >= 600
static void in_a_callback_of_cleanup(void) {
	clean_up_at_exit(PLUM_ERR_FAILED);
	state_to_exit_in = PLUM_STATE_DESTROYED;
	init_with(test_config());
	wait_for_event(create_exiting(9400), PLUM_STATE_SUCCESS);
	plum_cleanup();
	wait_for_the_end();
}
#endif

static void create_quietly(void) {
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_TCP, 9510);
	plum_create_mapping(&mapping, NULL);
}

static void exit_in_message(plum_log_level_t level, const char *message) {
	(void)level;
	if (strncmp(message, "mapping 0:", 10) == 0)
		exit(STATUS);
}

static void in_a_log_callback(void) {
	clean_up_at_exit(PLUM_ERR_FAILED);
	plum_config_t config = test_config();
	config.log_level = PLUM_LOG_LEVEL_VERBOSE;
	config.log_callback = exit_in_message;
	init_with(config);
	create_recorded(PLUM_IP_PROTOCOL_TCP, 9500);
	wait_for_the_end();
}

// No exit handler runs, nothing is flushed, nobody is told.
static void by_underscore_exit(void) {
	clean_up_at_exit(12345);
	init_with(test_config());
	wait_for_event(create_recorded(PLUM_IP_PROTOCOL_TCP, 9600), PLUM_STATE_SUCCESS);
	create_recorded(PLUM_IP_PROTOCOL_TCP, 9601);
	_exit(STATUS);
}

static void underscore_exit_in_callback(int id, plum_state_t state, const plum_mapping_t *mapping) {
	(void)id;
	(void)state;
	(void)mapping;
	_exit(STATUS);
}

static void by_underscore_exit_in_a_callback(void) {
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_TCP, 9610);
	init_with(test_config());
	CHECK(plum_create_mapping(&mapping, underscore_exit_in_callback) >= 0);
	wait_for_the_end();
}

// --- threads inside the library ---

static void *call_for_ever(void *unused) {
	(void)unused;
	for (;;) {
		plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_UDP, 9620);
		int id = plum_create_mapping(&mapping, NULL);
		plum_destroy_mapping(id);
		// One at a time: the worker must get to what the main thread waits for.
		while (plum_query_mapping(id, NULL, NULL) == PLUM_ERR_SUCCESS)
			sched_yield();
	}
	return NULL;
}

static void start_callers(void) {
	for (int i = 0; i < 4; ++i) {
		pthread_t thread;
		CHECK(pthread_create(&thread, NULL, call_for_ever, NULL) == 0);
	}
}

static void while_threads_call(void) {
	init_with(test_config());
	start_callers();
	wait_for_event(create_recorded(PLUM_IP_PROTOCOL_TCP, 9630), PLUM_STATE_SUCCESS);
	exit(STATUS);
}

// They find the library cleaned up, and go on to call it while the process ends.
static void while_threads_call_with_a_handler_that_cleans_up(void) {
	clean_up_at_exit(PLUM_ERR_SUCCESS);
	while_threads_call();
}

static void *clean_up_for_ever(void *unused) {
	(void)unused;
	plum_config_t config = test_config();
	for (;;) {
		plum_init(&config);
		create_quietly();
		plum_cleanup();
	}
	return NULL;
}

// Its exit handler's cleanup may be the second, which waits for the first.
static void clean_up_whoever_is_first(void) {
	int result = plum_cleanup();
	if (result != PLUM_ERR_SUCCESS && result != PLUM_ERR_FAILED)
		check_failed(__FILE__, __LINE__, "plum_cleanup returned %d", result);
}

static void while_another_thread_cleans_up(void) {
	pthread_t thread;
	CHECK(atexit(clean_up_whoever_is_first) == 0);
	CHECK(pthread_create(&thread, NULL, clean_up_for_ever, NULL) == 0);
	long long until_ms = check_now_ms() + 50;
	while (check_now_ms() < until_ms)
		plum_query_mapping(0, NULL, NULL);
	exit(STATUS);
}

// --- the main thread ends before the others ---

#ifdef _WIN32
static DWORD main_thread_number;
#else
static pthread_t main_thread;
#endif
static int main_thread_ends;

// Asked by LeakSanitizer at exit: glibc keeps the list of thread-local destructors of a main thread that has ended, and
// nothing leads to it any more.
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void) {
	return main_thread_ends;
}

static void join_main_thread(void) {
#ifdef _WIN32 // where winpthreads may have forgotten it
	HANDLE thread = OpenThread(SYNCHRONIZE, FALSE, main_thread_number);
	// There is none of this number where it has ended already.
	CHECK(thread == NULL || WaitForSingleObject(thread, CHECK_PATIENCE_MS) == WAIT_OBJECT_0);
#else
	CHECK(pthread_join(main_thread, NULL) == 0);
#endif
}

static void *outlive_main(void *unused) {
	(void)unused;
	join_main_thread();
	wait_for_event(create_recorded(PLUM_IP_PROTOCOL_TCP, 9640), PLUM_STATE_SUCCESS);
	exit(STATUS);
}

static void after_the_main_thread_has_ended(void) {
	pthread_t thread;
	clean_up_at_exit(PLUM_ERR_SUCCESS);
	init_with(test_config());
#ifdef _WIN32
	main_thread_number = GetCurrentThreadId();
#else
	main_thread = pthread_self();
#endif
	main_thread_ends = 1;
	CHECK(pthread_create(&thread, NULL, outlive_main, NULL) == 0);
	pthread_exit(NULL);
}

// --- a thread that is being torn down calls, after its thread-local variables are gone ---

// On Windows such destructors run under the loader's lock, which every thread needs to end: nobody may wait for one there.
#ifndef _WIN32
static void ignore_message(plum_log_level_t level, const char *message) {
	(void)level;
	(void)message;
}

static pthread_key_t key;

static void clean_up_in_destructor(void *round) {
	if (round != &key) {
		// Once more, when the destructors of others have run.
		CHECK(pthread_setspecific(key, &key) == 0);
		return;
	}
	int id = create_recorded(PLUM_IP_PROTOCOL_TCP, 9650);
	CHECK_INT(plum_query_mapping(id, NULL, NULL), PLUM_ERR_SUCCESS);
	CHECK_INT(plum_destroy_mapping(id), PLUM_ERR_SUCCESS);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
#if PLUM_TEST_ABI >= 600 // earlier ones have no such callback
	CHECK_INT(count_events(id, PLUM_STATE_DESTROYED), 1);
#endif
}

static void *end_with_a_destructor(void *unused) {
	plum_config_t config = test_config();
	config.log_level = PLUM_LOG_LEVEL_INFO;
	config.log_callback = ignore_message;
	init_with(config);
	wait_for_event(create_recorded(PLUM_IP_PROTOCOL_TCP, 9651), PLUM_STATE_SUCCESS);
	CHECK(pthread_setspecific(key, unused) == 0);
	return NULL;
}

static void in_a_destructor_of_a_thread(void) {
	pthread_t thread;
	static int other;
	CHECK(pthread_key_create(&key, clean_up_in_destructor) == 0);
	CHECK(pthread_create(&thread, NULL, end_with_a_destructor, &other) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	exit(STATUS);
}

#endif

#ifdef _WIN32
static const char *program;
// The case to carry out in this process, if it is not to start the others.
static const char *this_case;

// Each in a process of its own, which is told its name.
static void check(const row_t *row) {
	if (this_case != NULL) {
		if (strcmp(this_case, row->name) == 0) {
			row->body();
			_exit(1);
		}
		return;
	}
	intptr_t status = _spawnl(_P_WAIT, program, "exit", row->name, NULL);
	if (status != STATUS)
		check_failed(__FILE__, __LINE__, "%s: status 0x%x", row->name, (unsigned int)status);
}
#else
// Each in a process of its own, forked before this one has called plum_init.
static void check(const row_t *row) {
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		check_time_limit(60);
		row->body();
		_exit(1);
	}
	int status;
	CHECK(waitpid(pid, &status, 0) == pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != STATUS)
		check_failed(__FILE__, __LINE__, "%s: status 0x%x", row->name, (unsigned int)status);
}
#endif

static const row_t rows[] = {
    ROW(while_pending),
    ROW(while_made),
    ROW(with_a_handler_that_cleans_up),
    ROW(in_a_callback),
    ROW_SINCE_600(in_a_callback_of_cleanup),
    ROW(in_a_log_callback),
    ROW(by_underscore_exit),
    ROW(by_underscore_exit_in_a_callback),
    ROW(while_threads_call),
    ROW(while_threads_call_with_a_handler_that_cleans_up),
    ROW(while_another_thread_cleans_up),
    ROW(after_the_main_thread_has_ended),
#ifndef _WIN32
    ROW(in_a_destructor_of_a_thread),
#endif
};

int main(int argc, char *argv[]) {
	check_time_limit(100);
	events_init();
	long long started_ms = check_now_ms();
#ifdef _WIN32
	program = argv[0];
	this_case = argc > 1 ? argv[1] : NULL;
#else
	(void)argc;
	(void)argv;
#endif
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); ++i)
		if (check_runs_row(&rows[i]))
			check(&rows[i]);
	// Nobody waits for the worker, nor for the gateway.
	CHECK(check_now_ms() - started_ms < check_stretched_ms(10000));
	return 0;
}
