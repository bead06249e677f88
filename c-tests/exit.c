// A program that ends while the library is at work: exit CASE
//
// It ends at once and with its own status, whichever thread ends it; exit handlers may clean up.

#include "events.h"

#include <sys/wait.h>

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

#ifndef PLUM_TEST_ABI_05
static void in_a_callback_of_cleanup(void) {
	clean_up_at_exit(PLUM_ERR_FAILED);
	state_to_exit_in = PLUM_STATE_DESTROYED;
	init_with(test_config());
	wait_for_event(create_exiting(9400), PLUM_STATE_SUCCESS);
	plum_cleanup();
	wait_for_the_end();
}
#endif

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

// Each in a process of its own, forked before this one has called plum_init.
static void check(const char *name, void (*body)(void)) {
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		check_time_limit(60);
		body();
		_exit(1);
	}
	int status;
	CHECK(waitpid(pid, &status, 0) == pid);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != STATUS)
		check_failed(__FILE__, __LINE__, "%s: status 0x%x", name, (unsigned int)status);
}

int main(void) {
	check_time_limit(100);
	events_init();
	long long started_ms = check_now_ms();
	check("while pending", while_pending);
	check("while made", while_made);
	check("with a handler that cleans up", with_a_handler_that_cleans_up);
	check("in a callback", in_a_callback);
#ifndef PLUM_TEST_ABI_05
	check("in a callback of cleanup", in_a_callback_of_cleanup);
#endif
	check("in a log callback", in_a_log_callback);
	// Nobody waits for the worker, nor for the gateway.
	CHECK(check_now_ms() - started_ms < 5000);
	return 0;
}
