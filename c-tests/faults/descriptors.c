// A program that has used up its descriptors (RLIMIT_NOFILE) while the library is at work. Nobody tells when there are some
// again: it tries after 1, 2, 4 s and so on, up to the recheck period.

#include "shim.h"
#include "../events.h"

// The gateway speaks UPnP only.
static int needs_exchanges;

static void init(int recheck_ms) {
	plum_config_t config = faults_config();
	config.discover_timeout = 500;
	config.recheck_period = recheck_ms;
	forget_log();
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
}

static void cleanup(void) {
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

static void a_first_mapping_fails_and_is_made_soon_after(void) {
	init(0);
	work_t before = worker_work();
	take_descriptors(0);
	int id = create_recorded(PLUM_IP_PROTOCOL_TCP, 5200);
	wait_for_event(id, PLUM_STATE_FAILURE);
	wait_for_log(PLUM_LOG_LEVEL_WARN, "cannot look up the route", strerror(EMFILE), 1);
	wait_for_log(PLUM_LOG_LEVEL_WARN, "cannot watch for changes", strerror(EMFILE), 1);
	CHECK_INT(count_log(PLUM_LOG_LEVEL_WARN, "no route", ""), 0);
	// It tries again, and says no more about it to those who have asked for warnings only.
	wait_for_log(PLUM_LOG_LEVEL_DEBUG, "cannot look up the route", strerror(EMFILE), 2);
	CHECK_INT(count_log(PLUM_LOG_LEVEL_WARN, "cannot look up the route", ""), 1);
	CHECK_INT(count_events(id, ANY_STATE), 1);
	give_descriptors();
	check_little_work(before, 30);
	// With the default recheck period of five minutes.
	wait_for_event(id, PLUM_STATE_SUCCESS);
	cleanup();
}

static void what_is_made_stays(void) {
	init(200);
	int id = create_recorded(PLUM_IP_PROTOCOL_TCP, 5201);
	wait_for_event(id, PLUM_STATE_SUCCESS);
	work_t before = worker_work();
	take_descriptors(0);
	wait_for_log(PLUM_LOG_LEVEL_WARN, "cannot look up the route", strerror(EMFILE), 1);
	wait_for_log(PLUM_LOG_LEVEL_DEBUG, "cannot look up the route", strerror(EMFILE), 5);
	// The gateway can be asked all the same.
	int other = create_recorded(PLUM_IP_PROTOCOL_TCP, 5202);
	if (!needs_exchanges)
		wait_for_event(other, PLUM_STATE_SUCCESS);
	CHECK_INT(count_events(id, ANY_STATE), 1);
	give_descriptors();
	check_little_work(before, 150);
	wait_for_event(other, PLUM_STATE_SUCCESS);
	CHECK_INT(count_events(id, ANY_STATE), 1);
	CHECK_INT(queried_state(id), PLUM_STATE_SUCCESS);
	cleanup();
}

static void exchanges_wait_for_descriptors(void) {
	init(200);
	int id = create_recorded(PLUM_IP_PROTOCOL_TCP, 5203);
	wait_for_event(id, PLUM_STATE_SUCCESS);
	work_t before = worker_work();
	take_descriptors(0);
	int other = create_recorded(PLUM_IP_PROTOCOL_TCP, 5204);
	wait_for_log(PLUM_LOG_LEVEL_WARN, "cannot connect to", strerror(EMFILE), 1);
	wait_for_log(PLUM_LOG_LEVEL_DEBUG, "cannot connect to", strerror(EMFILE), 3);
	CHECK_INT(count_events(id, ANY_STATE), 1);
	give_descriptors();
	check_little_work(before, 150);
	wait_for_event(other, PLUM_STATE_SUCCESS);
	// The control URL was not given up for it.
	CHECK_INT(count_log(PLUM_LOG_LEVEL_WARN, "does not answer any more", ""), 0);
	CHECK_INT(count_events(id, ANY_STATE), 1);
	cleanup();
}

// Whatever is missing at first, all is well once there are descriptors, with the default recheck period.
static void whatever_number_is_left(void) {
	int with_failure = 0, with_success = 0;
	for (int left = 0; left < 12; ++left) {
		init(0);
		take_descriptors(left);
		int id = create_recorded(PLUM_IP_PROTOCOL_TCP, 5210 + left);
		plum_state_t first = wait_for_event(id, ANY_STATE).state;
		with_failure += first == PLUM_STATE_FAILURE;
		with_success += first == PLUM_STATE_SUCCESS;
		if (first == PLUM_STATE_FAILURE)
			CHECK(count_log(PLUM_LOG_LEVEL_WARN, strerror(EMFILE), "") > 0);
		give_descriptors();
		wait_for_event(id, PLUM_STATE_SUCCESS);
		CHECK_INT(queried_state(id), PLUM_STATE_SUCCESS);
		cleanup();
	}
	CHECK(with_failure > 0 && with_success > 0);
}

int main(int argc, char **argv) {
	check_time_limit(200);
	CHECK_INT(argc, 2);
	needs_exchanges = strcmp(argv[1], "upnp") == 0;
	faults_config();
	events_init();
	int descriptors = count_descriptors();
	a_first_mapping_fails_and_is_made_soon_after();
	what_is_made_stays();
	if (needs_exchanges)
		exchanges_wait_for_descriptors();
	whatever_number_is_left();
	check_all_destroyed_once();
	CHECK_INT(count_descriptors(), descriptors);
	return 0;
}
