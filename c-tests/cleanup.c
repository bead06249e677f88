// plum_cleanup and the gateway: ABI 0.6 leaves no mapping there, ABI 0.5 leaves those that are made; PLUM_ON_CLEANUP says otherwise.

#include "events.h"
#include "gateway.h"

#define VARIABLE "PLUM_ON_CLEANUP"

enum { DEFAULT_KEEPS = !DESTROYED_EVENTS };

static pthread_mutex_t errors_mutex = PTHREAD_MUTEX_INITIALIZER;
static int errors;

static void count_errors(plum_log_level_t level, const char *message) {
	pthread_mutex_lock(&errors_mutex);
	if (level == PLUM_LOG_LEVEL_ERROR && strstr(message, VARIABLE) != NULL)
		++errors;
	pthread_mutex_unlock(&errors_mutex);
}

static void init(void) {
	plum_config_t config = test_config();
	config.log_callback = count_errors;
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
}

// Empties the gateway's table, also of what a late packet brings, for the next case.
static void forget(void) {
	gateway_command("restart-without-memory");
	CHECK_INT(gateway_mappings(), 0);
}

// A session of three mappings, of which one is destroyed before its end.
static void check_cleanup(const char *value, int keeps, int expected_errors) {
	if (value != NULL)
		CHECK(setenv(VARIABLE, value, 1) == 0);
	errors = 0;
	init();
	// It is read once.
	CHECK(unsetenv(VARIABLE) == 0);
	int made[2] = {create_recorded(PLUM_IP_PROTOCOL_TCP, 9000), create_recorded(PLUM_IP_PROTOCOL_UDP, 9001)};
	int destroyed = create_recorded(PLUM_IP_PROTOCOL_TCP, 9002);
	wait_for_event(made[0], PLUM_STATE_SUCCESS);
	wait_for_event(made[1], PLUM_STATE_SUCCESS);
	wait_for_event(destroyed, PLUM_STATE_SUCCESS);
	CHECK_INT(plum_destroy_mapping(destroyed), PLUM_ERR_SUCCESS);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);

	// The program hears the same in any case.
	CHECK_INT(count_events(made[0], PLUM_STATE_DESTROYED), DESTROYED_EVENTS);
	CHECK_INT(count_events(made[1], PLUM_STATE_DESTROYED), DESTROYED_EVENTS);
	CHECK_INT(count_events(destroyed, PLUM_STATE_DESTROYED), DESTROYED_EVENTS);
	CHECK_INT(plum_query_mapping(made[0], NULL, NULL), PLUM_ERR_FAILED);
	CHECK_INT(gateway_mappings(), keeps ? 2 : 0);
	CHECK_INT(errors, expected_errors);
	forget();
}

// A mapping that the program has not been told of is undone: the program could neither count on it nor remove it.
static void a_pending_mapping_is_not_kept(void) {
	CHECK(setenv(VARIABLE, "keep", 1) == 0);
	init();
	int made = create_recorded(PLUM_IP_PROTOCOL_TCP, 9010);
	wait_for_event(made, PLUM_STATE_SUCCESS);
	// The gateway has it before it answers.
	gateway_command("set delay 300ms");
	int pending = create_recorded(PLUM_IP_PROTOCOL_UDP, 9011);
	long long deadline_ms = check_now_ms() + CHECK_PATIENCE_MS;
	while (gateway_mappings() < 2)
		CHECK(check_now_ms() < deadline_ms);
	plum_state_t state = queried_state(pending);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	// It may have been made in this moment, on a machine that is busy.
	if (state == PLUM_STATE_PENDING && count_events(pending, PLUM_STATE_SUCCESS) == 0)
		CHECK_INT(gateway_mappings(), 1);
	CHECK(unsetenv(VARIABLE) == 0);
	gateway_command("no-faults");
	forget();
}

static void the_default_is_that_of_the_abi(void) {
	check_cleanup(NULL, DEFAULT_KEEPS, 0);
}

static void the_environment_decides(void) {
	check_cleanup("", DEFAULT_KEEPS, 0);
	check_cleanup("keep", 1, 0);
	check_cleanup("remove", 0, 0);
}

static void another_word_is_an_error_in_the_log(void) {
	check_cleanup("Keep", DEFAULT_KEEPS, 1);
	check_cleanup("keep ", DEFAULT_KEEPS, 1);
}

static const row_t rows[] = {
    ROW(the_default_is_that_of_the_abi),
    ROW(the_environment_decides),
    ROW(another_word_is_an_error_in_the_log),
    ROW(a_pending_mapping_is_not_kept),
};

int main(void) {
	check_time_limit(100);
	events_init();
	CHECK_ROWS(rows);
	check_all_destroyed_once();
	return 0;
}
