// Every row of the function table: what each call returns, on good input and on bad.

#include "events.h"

// A value that the enum does not have. Through a volatile, so that the compiler does not reason about it.
static volatile int not_a_value = 99;
static volatile int negative_value = -1;

static void init(void) {
	plum_config_t config = test_config();
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
}

static void everything_fails_before_init(void) {
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_TCP, 1000);
	plum_state_t state;
	char buffer[PLUM_MAX_HOST_LEN];

	CHECK_INT(plum_cleanup(), PLUM_ERR_FAILED);
	CHECK_INT(plum_create_mapping(&mapping, record_event), PLUM_ERR_FAILED);
	CHECK_INT(plum_query_mapping(0, &state, &mapping), PLUM_ERR_FAILED);
	CHECK_INT(plum_query_mapping(-1, NULL, NULL), PLUM_ERR_FAILED);
	CHECK_INT(plum_destroy_mapping(0), PLUM_ERR_FAILED);
	CHECK_INT(plum_destroy_mapping(-1), PLUM_ERR_FAILED);
	CHECK_INT(plum_get_dummytls_host("192.0.2.1", buffer, sizeof(buffer)), PLUM_ERR_FAILED);
	CHECK_INT(plum_get_dummytls_certificate(PLUM_DUMMYTLS_PEM_CERT, buffer, sizeof(buffer)), PLUM_ERR_FAILED);
}

static void everything_fails_after_cleanup(void) {
	init();
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	everything_fails_before_init();
}

static void init_refuses_bad_configurations(void) {
	plum_config_t config = test_config();
	CHECK_INT(plum_init(NULL), PLUM_ERR_INVALID);

	config.log_level = (plum_log_level_t)not_a_value;
	CHECK_INT(plum_init(&config), PLUM_ERR_INVALID);
	config.log_level = (plum_log_level_t)negative_value;
	CHECK_INT(plum_init(&config), PLUM_ERR_INVALID);

	// None of them has initialised anything.
	CHECK_INT(plum_cleanup(), PLUM_ERR_FAILED);
}

static void init_takes_zeroes_and_negative_times(void) {
	plum_config_t config;
	memset(&config, 0, sizeof(config));
	config.log_level = PLUM_LOG_LEVEL_NONE;
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);

#if PLUM_TEST_ABI >= 600
	config.discover_timeout = -1;
	config.mapping_timeout = -2147483647 - 1;
	config.recheck_period = -5;
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);

	config.discover_timeout = 2147483647;
	config.mapping_timeout = 2147483647;
	config.recheck_period = 1;
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
#endif
}

static int warnings;

static void count_warning(plum_log_level_t level, const char *message) {
	warnings += level == PLUM_LOG_LEVEL_WARN && strstr(message, "protocol") != NULL;
}

#if PLUM_TEST_ABI >= 602

static void init_takes_a_protocol_out_of_range_for_any(void) {
	plum_config_t config = test_config();
	config.log_callback = count_warning;
	config.protocol = (plum_protocol_t)not_a_value;
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	CHECK_INT(warnings, 1);
	event_t success = wait_for_event(create_recorded(PLUM_IP_PROTOCOL_TCP, 1000), PLUM_STATE_SUCCESS);
	check_made_by(&success.mapping, BY_PCP);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	config.protocol = (plum_protocol_t)negative_value;
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	CHECK_INT(warnings, 2);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

#else

// A program of that time fills in the fields that it knows. Anything may stand where a later one has `protocol`: also what means UPnP.
static void init_reads_nothing_behind_the_last_field(void) {
	int values[] = {2, not_a_value, negative_value};
	for (int i = 0; i < 3; ++i) {
		struct {
			plum_config_t config;
			int after[4];
		} memory;
		memset(&memory, 0, sizeof(memory));
		memory.config.log_level = PLUM_LOG_LEVEL_WARN;
		memory.config.log_callback = count_warning;
		memcpy((char *)&memory + 3 * sizeof(void *) + 3 * sizeof(int), &values[i], sizeof(int));
		CHECK_INT(plum_init(&memory.config), PLUM_ERR_SUCCESS);
		event_t success = wait_for_event(create_recorded(PLUM_IP_PROTOCOL_TCP, 1000), PLUM_STATE_SUCCESS);
		check_made_by(&success.mapping, BY_PCP);
		CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	}
	CHECK_INT(warnings, 0);
}

#endif

static void init_while_initialised_changes_nothing(void) {
	plum_config_t config = test_config();
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	int id = create_recorded(PLUM_IP_PROTOCOL_TCP, 1000);
	CHECK_INT(plum_init(&config), PLUM_ERR_FAILED);
#if PLUM_TEST_ABI >= 602
	config.protocol = PLUM_PROTOCOL_UPNP;
	CHECK_INT(plum_init(&config), PLUM_ERR_FAILED);
#endif
	event_t success = wait_for_event(id, PLUM_STATE_SUCCESS);
	check_made_by(&success.mapping, BY_PCP);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

static void create_refuses_bad_mappings(void) {
	init();
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_TCP, 1000);
	CHECK_INT(plum_create_mapping(NULL, record_event), PLUM_ERR_INVALID);
	CHECK_INT(plum_create_mapping(NULL, NULL), PLUM_ERR_INVALID);

	mapping.internal_port = 0;
	CHECK_INT(plum_create_mapping(&mapping, record_event), PLUM_ERR_INVALID);

	mapping = wanted_mapping((plum_ip_protocol_t)not_a_value, 1000);
	CHECK_INT(plum_create_mapping(&mapping, record_event), PLUM_ERR_INVALID);
	mapping = wanted_mapping((plum_ip_protocol_t)negative_value, 1000);
	CHECK_INT(plum_create_mapping(&mapping, record_event), PLUM_ERR_INVALID);
	mapping = wanted_mapping((plum_ip_protocol_t)2, 1000);
	CHECK_INT(plum_create_mapping(&mapping, record_event), PLUM_ERR_INVALID);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

// The mapping is as wide as it may be, on the heap with nothing behind it: valgrind sees a byte read too many.
static void create_takes_any_host_and_mapping_protocol(void) {
	init();
	plum_mapping_t *mapping = malloc(sizeof(*mapping));
	CHECK(mapping != NULL);
	*mapping = wanted_mapping(PLUM_IP_PROTOCOL_UDP, 1001);
	memset(mapping->external_host, 'x', sizeof(mapping->external_host));
#if PLUM_TEST_ABI >= 600
	mapping->mapping_protocol = (plum_mapping_protocol_t)not_a_value;
#endif
	int id = plum_create_mapping(mapping, record_event);
	CHECK(id >= 0);

	// A wish that is no address, and one that is: the gateway decides.
	strcpy(mapping->external_host, "not.an.address.example");
	mapping->internal_port = 1002;
	int with_name = plum_create_mapping(mapping, record_event);
	CHECK(with_name >= 0);
	strcpy(mapping->external_host, "198.51.100.77");
	mapping->internal_port = 1003;
	int with_address = plum_create_mapping(mapping, record_event);
	CHECK(with_address >= 0);
	free(mapping);

	wait_for_event(id, PLUM_STATE_SUCCESS);
	wait_for_event(with_name, PLUM_STATE_SUCCESS);
	wait_for_event(with_address, ANY_STATE);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

static void create_takes_no_callback(void) {
	init();
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_TCP, 1010);
	int silent = plum_create_mapping(&mapping, NULL);
	CHECK(silent >= 0);
	// Mappings are made in their order, so when a later one is made its callback is the time to look at the silent one.
	long long deadline_ms = check_now_ms() + CHECK_PATIENCE_MS;
	for (int port = 1011; queried_state(silent) != PLUM_STATE_SUCCESS; ++port) {
		CHECK(check_now_ms() < deadline_ms);
		int id = create_recorded(PLUM_IP_PROTOCOL_TCP, port);
		wait_for_event(id, PLUM_STATE_SUCCESS);
		CHECK_INT(plum_destroy_mapping(id), PLUM_ERR_SUCCESS);
	}
	CHECK_INT(plum_query_mapping(silent, NULL, &mapping), PLUM_ERR_SUCCESS);
	CHECK(mapping.external_port != 0);
	CHECK(mapping.external_host[0] != '\0');
	CHECK_INT(plum_destroy_mapping(silent), PLUM_ERR_SUCCESS);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

static void query_takes_null_pointers(void) {
	init();
	int id = create_recorded(PLUM_IP_PROTOCOL_TCP, 1020);
	wait_for_event(id, PLUM_STATE_SUCCESS);
	plum_state_t state = PLUM_STATE_DESTROYED;
	plum_mapping_t mapping;
	CHECK_INT(plum_query_mapping(id, NULL, NULL), PLUM_ERR_SUCCESS);
	CHECK_INT(plum_query_mapping(id, &state, NULL), PLUM_ERR_SUCCESS);
	CHECK_INT(state, PLUM_STATE_SUCCESS);
	CHECK_INT(plum_query_mapping(id, NULL, &mapping), PLUM_ERR_SUCCESS);
	CHECK_INT(mapping.internal_port, 1020);
	CHECK_INT(mapping.protocol, PLUM_IP_PROTOCOL_TCP);

	CHECK_INT(plum_query_mapping(-1, &state, &mapping), PLUM_ERR_INVALID);
	CHECK_INT(plum_query_mapping(-2147483647 - 1, NULL, NULL), PLUM_ERR_INVALID);
	CHECK_INT(plum_query_mapping(2147483647, &state, &mapping), PLUM_ERR_NOT_AVAIL);
	CHECK_INT(plum_query_mapping(id + 1, NULL, NULL), PLUM_ERR_NOT_AVAIL);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

static void destroy_knows_its_ids(void) {
	init();
	CHECK_INT(plum_destroy_mapping(-1), PLUM_ERR_INVALID);
	CHECK_INT(plum_destroy_mapping(-2147483647 - 1), PLUM_ERR_INVALID);
	CHECK_INT(plum_destroy_mapping(2147483647), PLUM_ERR_NOT_AVAIL);

	int id = create_recorded(PLUM_IP_PROTOCOL_TCP, 1030);
	CHECK_INT(plum_destroy_mapping(id + 1), PLUM_ERR_NOT_AVAIL);
	CHECK_INT(plum_destroy_mapping(id), PLUM_ERR_SUCCESS);
	// While it is being destroyed once more is fine, afterwards it is unknown; when that is, is the worker's affair.
	int again = plum_destroy_mapping(id);
	CHECK(again == PLUM_ERR_SUCCESS || again == PLUM_ERR_NOT_AVAIL);
	wait_for_the_end_of(id);
	CHECK_INT(plum_destroy_mapping(id), PLUM_ERR_NOT_AVAIL);
	CHECK_INT(plum_query_mapping(id, NULL, NULL), PLUM_ERR_NOT_AVAIL);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

#if PLUM_TEST_ABI >= 602
static void set_log_level_ignores_what_is_no_level(void) {
	init();
	plum_set_log_level((plum_log_level_t)not_a_value);
	plum_set_log_level((plum_log_level_t)negative_value);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}
#endif

// The snprintf contract, on any function of it: `get` fills a buffer.
static void check_cut_like_snprintf(int (*get)(char *, size_t)) {
	char whole[PLUM_MAX_HOST_LEN];
	int length = get(whole, sizeof(whole));
	CHECK(length > 0 && (size_t)length < sizeof(whole));
	CHECK_INT(strlen(whole), length);
	CHECK_INT(get(NULL, 0), length);
	CHECK_INT(get(NULL, 1), PLUM_ERR_INVALID);

	for (int size = 0; size <= length + 1; ++size) {
		// On the heap, exactly as large as said.
		char *buffer = malloc(size > 0 ? (size_t)size : 1);
		CHECK(buffer != NULL);
		buffer[0] = '?';
		CHECK_INT(get(buffer, (size_t)size), length);
		if (size == 0) {
			CHECK_INT(buffer[0], '?');
		} else {
			int written = size - 1 < length ? size - 1 : length;
			CHECK_INT(strlen(buffer), written);
			CHECK(strncmp(buffer, whole, (size_t)written) == 0);
		}
		free(buffer);
	}
}

static void local_address_is_cut_like_snprintf(void) {
	char buffer[PLUM_MAX_ADDRESS_LEN];
	CHECK_INT(plum_get_local_address(NULL, 8), PLUM_ERR_INVALID);
	int length = plum_get_local_address(buffer, sizeof(buffer));
	if (length == PLUM_ERR_NOT_AVAIL)
		return; // this machine has no route to the internet
	check_cut_like_snprintf(plum_get_local_address);
	// PLUM_GATEWAY, a loopback address in these tests, does not count here.
	CHECK(strncmp(buffer, "127.", 4) != 0);
	init();
	check_cut_like_snprintf(plum_get_local_address);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

static void dummytls_without_domain_fails(void) {
	const char *const no_domains[] = {NULL, ""};
	for (int i = 0; i < 2; ++i) {
		char buffer[PLUM_MAX_HOST_LEN];
		plum_config_t config = test_config();
		config.dummytls_domain = no_domains[i];
		CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
		CHECK_INT(plum_get_dummytls_host("192.0.2.1", buffer, sizeof(buffer)), PLUM_ERR_FAILED);
		CHECK_INT(plum_get_dummytls_certificate(PLUM_DUMMYTLS_PEM_CERT, buffer, sizeof(buffer)), PLUM_ERR_FAILED);
		CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	}
}

// Whether there is a domain, or the library is initialised, does not matter.
static void check_dummytls_arguments(void) {
	char buffer[PLUM_MAX_HOST_LEN];
	CHECK_INT(plum_get_dummytls_host(NULL, buffer, sizeof(buffer)), PLUM_ERR_INVALID);
	CHECK_INT(plum_get_dummytls_host("", buffer, sizeof(buffer)), PLUM_ERR_INVALID);
	static const char *const no_addresses[] = {"not an address", "1.2.3.4.5", "1.2.3.4:80", "localhost", "[::1]", " 1.2.3.4"};
	for (size_t i = 0; i < sizeof(no_addresses) / sizeof(no_addresses[0]); ++i)
		CHECK_INT(plum_get_dummytls_host(no_addresses[i], buffer, sizeof(buffer)), PLUM_ERR_INVALID);
	CHECK_INT(plum_get_dummytls_host("1.2.3.4", NULL, 8), PLUM_ERR_INVALID);
	CHECK_INT(plum_get_dummytls_certificate((plum_dummytls_cert_type_t)not_a_value, buffer, sizeof(buffer)),
	          PLUM_ERR_INVALID);
	CHECK_INT(plum_get_dummytls_certificate((plum_dummytls_cert_type_t)negative_value, buffer, sizeof(buffer)),
	          PLUM_ERR_INVALID);
	CHECK_INT(plum_get_dummytls_certificate(PLUM_DUMMYTLS_PEM_CERT, NULL, 8), PLUM_ERR_INVALID);
}

static void dummytls_refuses_bad_arguments(void) {
	check_dummytls_arguments();
	init();
	check_dummytls_arguments();
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);

	plum_config_t config = test_config();
	config.dummytls_domain = "192.0.2.1"; // never looked up here: each of these calls ends before
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	check_dummytls_arguments();
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

static const row_t rows[] = {
    ROW(everything_fails_before_init),
    ROW(everything_fails_after_cleanup),
    ROW(local_address_is_cut_like_snprintf),
    ROW(init_refuses_bad_configurations),
    ROW(init_takes_zeroes_and_negative_times),
    ROW_SINCE_602(init_takes_a_protocol_out_of_range_for_any),
    ROW_BEFORE_602(init_reads_nothing_behind_the_last_field),
    ROW(init_while_initialised_changes_nothing),
    ROW(create_refuses_bad_mappings),
    ROW(create_takes_any_host_and_mapping_protocol),
    ROW(create_takes_no_callback),
    ROW(query_takes_null_pointers),
    ROW(destroy_knows_its_ids),
    ROW_SINCE_602(set_log_level_ignores_what_is_no_level),
    ROW(dummytls_refuses_bad_arguments),
    ROW(dummytls_without_domain_fails),
};

int main(void) {
	check_time_limit(100);
	events_init();
	CHECK_ROWS(rows);
	check_all_destroyed_once();
	return 0;
}
