// Datagrams that the system does not send, and sockets that it does not read. Nobody tells when it does again: the next
// recheck finds out.

#include "shim.h"
#include "../events.h"

#define RECHECK_MS 300

static void init(void) {
	plum_config_t config = faults_config();
	config.discover_timeout = 400;
	config.mapping_timeout = 400;
	config.recheck_period = RECHECK_MS;
	forget_log();
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
}

static void cleanup(void) {
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

static void check_fails_and_recovers(call_t call, int error, const char *what, const char *hint) {
	init();
	fail(call, error);
	int id = create_recorded(PLUM_IP_PROTOCOL_UDP, 5300);
	work_t before = worker_work();
	wait_for_event(id, PLUM_STATE_FAILURE);
	wait_for_log(PLUM_LOG_LEVEL_WARN, what, strerror(error), 1);
	CHECK(count_log(PLUM_LOG_LEVEL_WARN, what, hint) > 0);
	// Some rechecks later.
	wait_for_log(PLUM_LOG_LEVEL_DEBUG, "route on-link", "", 4);
	// Once for each of the library's sockets, of which there are five.
	CHECK(count_log(PLUM_LOG_LEVEL_WARN, what, "") <= 5);
	CHECK_INT(count_events(id, ANY_STATE), 1);
	check_little_work(before, 100);
	// And then once for each with each wake-up.
	int said = count_log(PLUM_LOG_LEVEL_DEBUG, what, "");
	long long wake_ups = worker_work().wake_ups - before.wake_ups;
	if (said > 5 * wake_ups)
		check_failed(__FILE__, __LINE__, "it was said %d times in %lld wake-ups", said, wake_ups);
	fail(call, 0);
	wait_for_event(id, PLUM_STATE_SUCCESS);
	cleanup();
}

static void what_is_made_outlives(call_t call, int error, const char *what) {
	init();
	int id = create_recorded(PLUM_IP_PROTOCOL_UDP, 5301);
	wait_for_event(id, PLUM_STATE_SUCCESS);
	work_t before = worker_work();
	fail(call, error);
	// Mappings are made for two hours; a gateway that cannot be asked for a while changes nothing.
	wait_for_log(PLUM_LOG_LEVEL_WARN, what, strerror(error), 1);
	int other = create_recorded(PLUM_IP_PROTOCOL_UDP, 5302);
	wait_for_event(other, PLUM_STATE_FAILURE);
	check_little_work(before, 100);
	fail(call, 0);
	wait_for_event(other, PLUM_STATE_SUCCESS);
	CHECK_INT(count_events(id, ANY_STATE), 1);
	cleanup();
}

// An error of an earlier datagram, once, costs one retransmission.
static void errors_that_pass(call_t call, int error) {
	init();
	fail_times(call, error, 1);
	int id = create_recorded(PLUM_IP_PROTOCOL_UDP, 5303);
	CHECK_INT(wait_for_event(id, ANY_STATE).state, PLUM_STATE_SUCCESS);
	CHECK_INT(failures(call), 1);
	cleanup();
}

// What tells of changes of the network cannot be read: another such socket is opened, and the loop does not turn for ever.
static void notices_that_cannot_be_read(void) {
	init();
	int id = create_recorded(PLUM_IP_PROTOCOL_UDP, 5304);
	wait_for_event(id, PLUM_STATE_SUCCESS);
	work_t before = worker_work();
	fail(CALL_NETLINK_RECV, EIO);
	for (int i = 1; i <= 3; ++i) {
		forget_log();
		wake_timer();
		wait_for_log(PLUM_LOG_LEVEL_WARN, "no longer reports changes", "", 1);
		// Another one is opened with the next look at the route.
		wait_for_log(PLUM_LOG_LEVEL_DEBUG, "network: route", "", 2);
	}
	check_little_work(before, 100);
	fail(CALL_NETLINK_RECV, 0);
	CHECK_INT(count_events(id, ANY_STATE), 1);
	// Lost notices (ENOBUFS) are told once: there were some.
	forget_log();
	fail_times(CALL_NETLINK_RECV, ENOBUFS, 1);
	wake_timer();
	wait_for_log(PLUM_LOG_LEVEL_DEBUG, "have changed", "", 1);
	CHECK_INT(count_log(PLUM_LOG_LEVEL_WARN, "no longer reports changes", ""), 0);
	cleanup();
}

// The kernel cannot say what the route is: what is known of it holds.
static void a_route_that_cannot_be_asked_for(void) {
	init();
	fail(CALL_ROUTE_RECV, ENOBUFS);
	int id = create_recorded(PLUM_IP_PROTOCOL_UDP, 5305);
	wait_for_event(id, PLUM_STATE_FAILURE);
	wait_for_log(PLUM_LOG_LEVEL_WARN, "cannot look up the route", strerror(ENOBUFS), 1);
	fail(CALL_ROUTE_RECV, 0);
	wait_for_event(id, PLUM_STATE_SUCCESS);
	fail(CALL_ROUTE_RECV, ENOBUFS);
	wait_for_log(PLUM_LOG_LEVEL_DEBUG, "cannot look up the route", strerror(ENOBUFS), 3);
	CHECK_INT(queried_state(id), PLUM_STATE_SUCCESS);
	fail(CALL_ROUTE_RECV, 0);
	cleanup();
}

int main(void) {
	static const int send_errors[] = {ENOBUFS, ENOMEM, EAGAIN, EPERM, ENETUNREACH, EHOSTUNREACH, ENETDOWN, EMSGSIZE, EACCES};
	static const int receive_errors[] = {ENOMEM, ENOBUFS, EHOSTUNREACH, EIO};
	check_time_limit(200);
	faults_config();
	events_init();

	for (size_t i = 0; i < sizeof(send_errors) / sizeof(send_errors[0]); ++i) {
		int error = send_errors[i];
		check_fails_and_recovers(CALL_UDP_SEND, error, "cannot send to", error == EPERM ? "firewall" : "");
		errors_that_pass(CALL_UDP_SEND, error);
	}
	for (size_t i = 0; i < sizeof(receive_errors) / sizeof(receive_errors[0]); ++i) {
		check_fails_and_recovers(CALL_UDP_RECV, receive_errors[i], "cannot read", "");
		errors_that_pass(CALL_UDP_RECV, receive_errors[i]);
	}
	what_is_made_outlives(CALL_UDP_SEND, ENETUNREACH, "cannot send to");
	what_is_made_outlives(CALL_UDP_RECV, ENOMEM, "cannot read");
	notices_that_cannot_be_read();
	a_route_that_cannot_be_asked_for();
	check_all_destroyed_once();
	return 0;
}
