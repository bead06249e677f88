// Clocks: the wall clock is set, the machine sleeps, and clocks that do what they must not.

#include "shim.h"
#include "../events.h"
#include "../gateway.h"

#define HOUR_MS (60 * 60 * 1000LL)

// With the default recheck period of five minutes: what is seen here is seen at once.
static void init(void) {
	plum_config_t config = faults_config();
	forget_log();
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
}

static void cleanup(void) {
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

static int made(int port) {
	int id = create_recorded(PLUM_IP_PROTOCOL_UDP, port);
	wait_for_event(id, PLUM_STATE_SUCCESS);
	return id;
}

static void the_wall_clock_does_not_matter(void) {
	init();
	int id = made(5400);
	work_t before = worker_work();
	for (int years = -30; years <= 30; years += 20) {
		shift_clock(CLOCK_REALTIME, years * 365 * 24 * HOUR_MS);
		wake_timer();
		// The worker is awake and works as ever.
		int other = made(5450 + years);
		CHECK_INT(plum_destroy_mapping(other), PLUM_ERR_SUCCESS);
		wait_for_event(other, PLUM_STATE_DESTROYED);
	}
	check_little_work(before, 100);
	CHECK_INT(count_events(id, ANY_STATE), 1);
	CHECK_INT(count_log(PLUM_LOG_LEVEL_DEBUG, "slept", ""), 0);
	cleanup();
	shift_clock(CLOCK_REALTIME, 0);
}

// Longer than a mapping lasts: it is made anew at once, and the program told, though nothing else has changed.
static void after_a_long_sleep_what_ran_out_is_made_anew(int tells) {
	if (!tells)
		fail(CALL_TIMERFD, ENOSYS);
	init();
	int id = made(5401);
	work_t before = worker_work();
	gateway_command("restart-without-memory");
	shift_clock(CLOCK_BOOTTIME, 3 * HOUR_MS + 500);
	int other = -1;
	if (tells)
		wake_timer();
	else
		// Whatever wakes the worker makes it look.
		other = create_recorded(PLUM_IP_PROTOCOL_UDP, 5402);
	wait_for_events(id, PLUM_STATE_SUCCESS, 2);
	CHECK_INT(count_events(id, PLUM_STATE_FAILURE), 0);
	wait_for_log(PLUM_LOG_LEVEL_DEBUG, "slept for 10800 s", "", 1);
	if (other >= 0)
		wait_for_event(other, PLUM_STATE_SUCCESS);
	CHECK_INT(gateway_mappings(), other >= 0 ? 2 : 1);
	check_little_work(before, 100);
	cleanup();
	fail(CALL_TIMERFD, 0);
	shift_clock(CLOCK_BOOTTIME, 0);
}

// Shorter: the gateway is looked at, at once, and the program hears nothing.
static void after_a_short_sleep_the_gateway_is_looked_at(void) {
	init();
	int id = made(5403);
	forget_log();
	// The gateway has not slept: its clock went on by as much.
	gateway_command("set epoch 605");
	shift_clock(CLOCK_BOOTTIME, HOUR_MS / 6 + 500);
	wake_timer();
	wait_for_log(PLUM_LOG_LEVEL_DEBUG, "slept for 600 s", "", 1);
	wait_for_log(PLUM_LOG_LEVEL_DEBUG, "network: route", "", 1);
	// What the gateway answers then comes before the answer to a later question.
	made(5407);
	CHECK_INT(count_events(id, ANY_STATE), 1);
	// A gateway that was restarted meanwhile, and forgot: seen by the same look.
	gateway_command("restart-without-memory");
	shift_clock(CLOCK_BOOTTIME, HOUR_MS / 3);
	wake_timer();
	wait_for_events(id, PLUM_STATE_SUCCESS, 2);
	cleanup();
	shift_clock(CLOCK_BOOTTIME, 0);
}

static void clocks_that_stand_still_do_no_harm(void) {
	init();
	int id = made(5404);
	work_t before = worker_work();
	freeze_clocks(1);
	// Answers come all the same.
	int other = made(5405);
	CHECK_INT(plum_destroy_mapping(other), PLUM_ERR_SUCCESS);
	wait_for_event(other, PLUM_STATE_DESTROYED);
	// A timer is not due then, however often the worker wakes up for it.
	gateway_command("silence pcp 1");
	int late = create_recorded(PLUM_IP_PROTOCOL_UDP, 5406);
	wait_for_wake_ups(3);
	check_little_work(before, 100);
	CHECK_INT(count_events(late, ANY_STATE), 0);
	freeze_clocks(0);
	wait_for_event(late, PLUM_STATE_SUCCESS);
	CHECK_INT(count_events(id, ANY_STATE), 1);
	CHECK_INT(count_log(PLUM_LOG_LEVEL_FATAL, "", ""), 0);
	cleanup();
}

static void clocks_that_step_back_do_no_harm(void) {
	init();
	shake_clocks(500);
	work_t before = worker_work();
	int ids[20];
	for (int i = 0; i < 20; ++i)
		ids[i] = made(5410 + i);
	// And where something has to be timed: retransmissions.
	gateway_command("silence pcp 2");
	made(5440);
	check_little_work(before, 400);
	for (int i = 0; i < 20; ++i)
		CHECK_INT(count_events(ids[i], ANY_STATE), 1);
	CHECK_INT(count_log(PLUM_LOG_LEVEL_FATAL, "", ""), 0);
	shake_clocks(0);
	cleanup();
}

int main(void) {
	check_time_limit(100);
	faults_config();
	events_init();
	the_wall_clock_does_not_matter();
	after_a_long_sleep_what_ran_out_is_made_anew(1);
	after_a_long_sleep_what_ran_out_is_made_anew(0);
	after_a_short_sleep_the_gateway_is_looked_at();
	clocks_that_stand_still_do_no_harm();
	clocks_that_step_back_do_no_harm();
	check_all_destroyed_once();
	return 0;
}
