// Pinholes for IPv6, where there is no way to the internet by IPv6: they fail, and IPv4 does not notice.

#include "events.h"
#include "gateway.h"

static void init(void) {
	plum_config_t config = test_config();
	config.log_level = PLUM_LOG_LEVEL_NONE; // a failure is warned of
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
}

static int create_toward(const char *host, int internal_port) {
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_TCP, internal_port);
	CHECK(strlen(host) < sizeof(mapping.external_host));
	strcpy(mapping.external_host, host);
	int id = plum_create_mapping(&mapping, record_event);
	CHECK(id >= 0);
	return id;
}

static void check_failure(int id, int internal_port) {
	event_t failure = wait_for_event(id, ANY_STATE);
	CHECK_INT(failure.state, PLUM_STATE_FAILURE);
	CHECK_INT(failure.mapping.internal_port, internal_port);
	CHECK_INT(queried_state(id), PLUM_STATE_FAILURE);
}

static void check_made(int id) {
	event_t made = wait_for_event(id, ANY_STATE);
	CHECK_INT(made.state, PLUM_STATE_SUCCESS);
	CHECK_STRING(made.mapping.external_host, gateway_external_address());
	CHECK_INT(queried_state(id), PLUM_STATE_SUCCESS);
}

static void destroy(int id) {
	CHECK_INT(plum_destroy_mapping(id), PLUM_ERR_SUCCESS);
	wait_for_the_end_of(id);
	CHECK_INT(plum_query_mapping(id, NULL, NULL), PLUM_ERR_NOT_AVAIL);
}

// For IPv4 a silent gateway is waited for, so that its failure would come first otherwise.
static void a_pinhole_without_ipv6_fails_at_once(void) {
	gateway_answers(0);
	init();
	int pinhole = create_toward("::", 1000);
	int mapping = create_toward("", 1001);
	wait_for_event(mapping, PLUM_STATE_FAILURE);
	check_failure(pinhole, 1000);
	pthread_mutex_lock(&events.mutex);
	int first = 0;
	while (events.list[first].id != pinhole && events.list[first].id != mapping)
		++first;
	CHECK_INT(events.list[first].id, pinhole);
	pthread_mutex_unlock(&events.mutex);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	gateway_answers(1);
}

static void mappings_of_ipv4_do_not_notice(void) {
	init();
	int before = create_toward("", 1010);
	int pinhole = create_toward("::", 1011);
	int after = create_toward("", 1012);
	check_failure(pinhole, 1011);
	check_made(before);
	check_made(after);
	destroy(pinhole);
	CHECK_INT(gateway_mappings(), 2);
	CHECK_INT(count_events(before, ANY_STATE), 1);
	CHECK_INT(count_events(after, ANY_STATE), 1);
	CHECK_INT(count_events(pinhole, ANY_STATE), 1 + DESTROYED_EVENTS);
	CHECK_INT(queried_state(before), PLUM_STATE_SUCCESS);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

// Loopback, link-local, multicast, Teredo, 6to4, documentation; and one that this machine does not have.
static void an_address_that_cannot_be_reached_is_a_failure(void) {
	static const char *const hosts[] = {"::1",         "fe80::1",     "ff02::1",
	                                    "2001::1",     "2002::1",     "2001:db8::1",
	                                    "2600::dead:beef"};
	int ids[sizeof(hosts) / sizeof(hosts[0])];
	int count = (int)(sizeof(hosts) / sizeof(hosts[0]));
	init();
	for (int i = 0; i < count; ++i)
		ids[i] = create_toward(hosts[i], 1020 + i);
	for (int i = 0; i < count; ++i)
		check_failure(ids[i], 1020 + i);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	for (int i = 0; i < count; ++i)
		CHECK_INT(count_events(ids[i], ANY_STATE), 1 + DESTROYED_EVENTS);
}

static void both_families_of_one_port_are_two_mappings(void) {
	// With ABI 0.5 the mappings of earlier rows are still there.
	int before = gateway_mappings();
	for (int first = 0; first < 2; ++first) {
		init();
		int mapping = create_toward("", 1030);
		int pinhole = create_toward("::", 1030);
		CHECK(mapping != pinhole);
		check_made(mapping);
		check_failure(pinhole, 1030);
		destroy(first == 0 ? mapping : pinhole);
		if (first == 0)
			CHECK_INT(queried_state(pinhole), PLUM_STATE_FAILURE);
		else
			CHECK_INT(queried_state(mapping), PLUM_STATE_SUCCESS);
		CHECK_INT(gateway_mappings(), before + first);
		destroy(first == 0 ? pinhole : mapping);
		CHECK_INT(gateway_mappings(), before);
		CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	}
}

static void what_is_no_ipv6_address_is_for_ipv4(void) {
	static const char *const hosts[] = {"", "router.example", "[::1]", "::1 ", "fe80::1%eth0", ":::", "::1/128"};
	init();
	for (size_t i = 0; i < sizeof(hosts) / sizeof(hosts[0]); ++i)
		check_made(create_toward(hosts[i], 1040 + (int)i));
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

static void an_ipv4_address_in_the_form_of_ipv6_is_for_ipv4(void) {
	char host[PLUM_MAX_HOST_LEN];
	snprintf(host, sizeof(host), "::ffff:%s", gateway_external_address());
	init();
	check_made(create_toward(host, 1050));
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

static const row_t rows[] = {
    ROW(a_pinhole_without_ipv6_fails_at_once),
    ROW(mappings_of_ipv4_do_not_notice),
    ROW(an_address_that_cannot_be_reached_is_a_failure),
    ROW(both_families_of_one_port_are_two_mappings),
    ROW(what_is_no_ipv6_address_is_for_ipv4),
    ROW(an_ipv4_address_in_the_form_of_ipv6_is_for_ipv4),
};

int main(void) {
	check_time_limit(100);
	events_init();
	CHECK_ROWS(rows);
	check_all_destroyed_once();
	return 0;
}
