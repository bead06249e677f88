// What plum_init needs and does not get: it fails, says why, leaves nothing behind, and works later.

#include "shim.h"
#include "../events.h"

// Without what it needs.
static void check_init_fails(const char *what, int error) {
	plum_config_t config = faults_config();
	forget_log();
	CHECK_INT(plum_init(&config), PLUM_ERR_FAILED);
	CHECK_INT(count_log(PLUM_LOG_LEVEL_ERROR, what, strerror(error)), 1);
	// It is as if it had not been called.
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_UDP, 5000);
	CHECK_INT(plum_create_mapping(&mapping, record_event), PLUM_ERR_FAILED);
	CHECK_INT(plum_cleanup(), PLUM_ERR_FAILED);
}

static void check_init_works(void) {
	plum_config_t config = faults_config();
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	int id = create_recorded(PLUM_IP_PROTOCOL_UDP, 5000);
	wait_for_event(id, PLUM_STATE_SUCCESS);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

static void a_call_that_fails(call_t call, int error, const char *what) {
	int descriptors = count_descriptors(), threads = count_threads();
	fail(call, error);
	check_init_fails(what, error);
	CHECK(failures(call) > 0);
	fail(call, 0);
	CHECK_INT(count_descriptors(), descriptors);
	CHECK_INT(count_threads(), threads);
	check_init_works();
	CHECK_INT(count_descriptors(), descriptors);
	CHECK_INT(count_threads(), threads);
}

static void without_descriptors(void) {
	for (int left = 0; left < 2; ++left) {
		int descriptors = count_descriptors();
		take_descriptors(left);
		check_init_fails("descriptors", EMFILE);
		give_descriptors();
		CHECK_INT(count_descriptors(), descriptors);
	}
	check_init_works();
}

// The kernel always has random numbers; a sandbox may refuse the call at any time. A nonce that can be guessed protects nothing, so
// PCP makes nothing new then; what it has made lives on, and the next protocol makes the rest.
static void no_random_numbers_in_mid_session(void) {
	plum_config_t config = faults_config();
	forget_log();
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	int made = create_recorded(PLUM_IP_PROTOCOL_UDP, 5001);
	event_t event = wait_for_event(made, PLUM_STATE_SUCCESS);
	check_made_by(&event.mapping, BY_PCP);
	fail(CALL_GETRANDOM, EIO);
	int next = create_recorded(PLUM_IP_PROTOCOL_UDP, 5002);
	event = wait_for_event(next, PLUM_STATE_SUCCESS);
	check_made_by(&event.mapping, BY_NATPMP);
	CHECK(failures(CALL_GETRANDOM) > 0);
	wait_for_log(PLUM_LOG_LEVEL_WARN, "no random numbers", strerror(EIO), 1);
	CHECK_INT(queried_state(made), PLUM_STATE_SUCCESS);
	CHECK_INT(plum_destroy_mapping(made), PLUM_ERR_SUCCESS);
	wait_for_event(made, PLUM_STATE_DESTROYED);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	fail(CALL_GETRANDOM, 0);
	check_init_works();
}

int main(void) {
	check_time_limit(100);
	faults_config();
	events_init();
	check_init_works();

	a_call_that_fails(CALL_EPOLL, EMFILE, "descriptors");
	a_call_that_fails(CALL_EPOLL, ENOMEM, "descriptors");
	a_call_that_fails(CALL_EVENTFD, ENFILE, "descriptors");
	a_call_that_fails(CALL_GETRANDOM, EIO, "random numbers");
	a_call_that_fails(CALL_THREAD, EAGAIN, "thread");
	without_descriptors();
	no_random_numbers_in_mid_session();

	check_all_destroyed_once();
	return 0;
}
