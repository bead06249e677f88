// The nine rules of callbacks, in their order.

#include "events.h"
#include "gateway.h"

static pthread_t main_thread;

static void init_with(plum_config_t config) {
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
}

// A flag that one thread raises and another waits for.
typedef struct {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	int raised;
} flag_t;

static void flag_init(flag_t *flag) {
	CHECK(pthread_mutex_init(&flag->mutex, NULL) == 0);
	check_condition_init(&flag->changed);
	flag->raised = 0;
}

static void flag_raise(flag_t *flag) {
	pthread_mutex_lock(&flag->mutex);
	flag->raised = 1;
	pthread_cond_broadcast(&flag->changed);
	pthread_mutex_unlock(&flag->mutex);
}

static int flag_is_raised(flag_t *flag) {
	pthread_mutex_lock(&flag->mutex);
	int raised = flag->raised;
	pthread_mutex_unlock(&flag->mutex);
	return raised;
}

static void flag_wait(flag_t *flag) {
	long long deadline_ms = check_now_ms() + CHECK_PATIENCE_MS;
	pthread_mutex_lock(&flag->mutex);
	while (!flag->raised)
		CHECK(check_wait_until(&flag->changed, &flag->mutex, deadline_ms) || flag->raised);
	pthread_mutex_unlock(&flag->mutex);
}

// --- 1: one thread, the worker's; three states ---

static void rule_1_all_callbacks_come_from_one_thread_of_the_library(void) {
	init_with(test_config());
	int first_event = count_events(ANY_ID, ANY_STATE);
	for (int i = 0; i < 20; ++i) {
		int id = create_recorded(PLUM_IP_PROTOCOL_TCP, 3100 + i);
		if (i % 2)
			CHECK_INT(plum_destroy_mapping(id), PLUM_ERR_SUCCESS);
	}
	wait_for_events(ANY_ID, PLUM_STATE_SUCCESS, 10);
	// The DESTROYED of the others come during cleanup; record_event checks states and nesting.
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	CHECK(count_events(ANY_ID, ANY_STATE) >= first_event + 10 + 20 * DESTROYED_EVENTS);
	for (int i = first_event; i < events.count; ++i) {
		CHECK(!pthread_equal(events.list[i].thread, main_thread));
		CHECK(pthread_equal(events.list[i].thread, events.list[first_event].thread));
	}
}

// --- 2: what the callback is handed ---

static void rule_2_the_mapping_is_the_programs_own(void) {
	static int user_data[2];
	init_with(test_config());

	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_UDP, 3200);
	mapping.external_port = 3299;
	mapping.user_ptr = &user_data[0];
	int made = plum_create_mapping(&mapping, record_event);
	CHECK(made >= 0);
	// The struct was copied.
	memset(&mapping, 0xff, sizeof(mapping));

	event_t success = wait_for_event(made, PLUM_STATE_SUCCESS);
	CHECK(success.mapping.user_ptr == &user_data[0]);
	CHECK_INT(success.mapping.protocol, PLUM_IP_PROTOCOL_UDP);
	CHECK_INT(success.mapping.internal_port, 3200);
	CHECK_INT(success.mapping.external_port, 3299);
	check_made_by(&success.mapping, BY_PCP);
	CHECK_STRING(success.mapping.external_host, gateway_external_address());

	// A query tells the same as the callback.
	plum_state_t state;
	CHECK_INT(plum_query_mapping(made, &state, &mapping), PLUM_ERR_SUCCESS);
	CHECK_INT(state, PLUM_STATE_SUCCESS);
	CHECK(mapping.user_ptr == success.mapping.user_ptr);
	CHECK_INT(mapping.external_port, success.mapping.external_port);
	CHECK_STRING(mapping.external_host, success.mapping.external_host);
	check_made_by(&mapping, BY_PCP);

	CHECK_INT(plum_destroy_mapping(made), PLUM_ERR_SUCCESS);
#if PLUM_TEST_ABI >= 600
	event_t destroyed = wait_for_event(made, PLUM_STATE_DESTROYED); // empty host, port 0: record_event
	CHECK(destroyed.mapping.user_ptr == &user_data[0]);
	CHECK_INT(destroyed.mapping.protocol, PLUM_IP_PROTOCOL_UDP);
	CHECK_INT(destroyed.mapping.internal_port, 3200);
#endif
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

#if PLUM_TEST_ABI >= 600

// --- 3: SUCCESS again when something changed; silence otherwise ---

static void rule_3_success_again_when_the_mapping_was_lost(void) {
	plum_config_t config = test_config();
	config.recheck_period = 100;
	gateway_command("set epoch 1000"); // from which a restart takes it back
	init_with(config);
	int id = create_recorded(PLUM_IP_PROTOCOL_TCP, 3300);
	event_t first = wait_for_event(id, PLUM_STATE_SUCCESS);
	// Made anew, and reported although everything is as it was.
	gateway_command("restart-without-memory");
	event_t again = wait_for_events(id, PLUM_STATE_SUCCESS, 2);
	CHECK_STRING(again.mapping.external_host, first.mapping.external_host);
	CHECK_INT(again.mapping.external_port, first.mapping.external_port);
	CHECK_INT(gateway_mappings(), 1);
	CHECK_INT(count_events(id, PLUM_STATE_FAILURE), 0);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

static void rule_3_success_again_when_the_address_changed(void) {
	plum_config_t config = test_config();
	config.recheck_period = 100;
	gateway_command("natpmp-only"); // whose public-address request shows it at the next recheck
	init_with(config);
	int id = create_recorded(PLUM_IP_PROTOCOL_TCP, 3310);
	event_t first = wait_for_event(id, PLUM_STATE_SUCCESS);
	CHECK_STRING(first.mapping.external_host, gateway_external_address());

	gateway_command("set external-address 203.0.113.99");
	event_t again = wait_for_events(id, PLUM_STATE_SUCCESS, 2);
	CHECK_STRING(again.mapping.external_host, "203.0.113.99");
	CHECK_INT(again.mapping.external_port, first.mapping.external_port);
	plum_mapping_t mapping;
	CHECK_INT(plum_query_mapping(id, NULL, &mapping), PLUM_ERR_SUCCESS);
	CHECK_STRING(mapping.external_host, "203.0.113.99");
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);

	char restore[64];
	snprintf(restore, sizeof(restore), "set external-address %s", gateway_external_address());
	gateway_command(restore);
	gateway_command("no-faults");
}

// --- 4: FAILURE once, then SUCCESS when it becomes possible ---

static void rule_4_failure_comes_once_and_success_may_follow(void) {
	plum_config_t config = test_config();
	config.recheck_period = 100;
	config.discover_timeout = 300;
	gateway_answers(0);
	init_with(config);
	int id = create_recorded(PLUM_IP_PROTOCOL_TCP, 3400);
	CHECK_INT(queried_state(id), PLUM_STATE_PENDING);
	wait_for_event(id, PLUM_STATE_FAILURE);
	CHECK_INT(queried_state(id), PLUM_STATE_FAILURE);
	gateway_answers(1);
	wait_for_event(id, PLUM_STATE_SUCCESS);
	CHECK_INT(count_events(id, PLUM_STATE_FAILURE), 1);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

// --- 5: DESTROYED once, last, soon ---

static void rule_5_destroyed_comes_once_and_soon_also_when_pending(void) {
	init_with(test_config());
	int made = create_recorded(PLUM_IP_PROTOCOL_TCP, 3500);
	wait_for_event(made, PLUM_STATE_SUCCESS);
	long long started_ms = check_now_ms();
	CHECK_INT(plum_destroy_mapping(made), PLUM_ERR_SUCCESS);
	event_t destroyed = wait_for_event(made, PLUM_STATE_DESTROYED);
	CHECK(destroyed.at_ms - started_ms <= check_stretched_ms(1000));

	// Nobody answers: pending, and the gateway cannot be told.
	gateway_answers(0);
	int lost = create_recorded(PLUM_IP_PROTOCOL_TCP, 3501);
	CHECK_INT(queried_state(lost), PLUM_STATE_PENDING);
	started_ms = check_now_ms();
	CHECK_INT(plum_destroy_mapping(lost), PLUM_ERR_SUCCESS);
	destroyed = wait_for_event(lost, PLUM_STATE_DESTROYED);
	CHECK(destroyed.at_ms - started_ms <= check_stretched_ms(1000));
	CHECK_INT(count_events(lost, PLUM_STATE_SUCCESS), 0);

	// And by cleanup, before it returns.
	int left = create_recorded(PLUM_IP_PROTOCOL_TCP, 3502);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	CHECK_INT(count_events(left, PLUM_STATE_DESTROYED), 1);
	gateway_answers(1);

	// No id, no callback.
	int total = count_events(ANY_ID, ANY_STATE);
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_TCP, 0);
	init_with(test_config());
	CHECK_INT(plum_create_mapping(&mapping, record_event), PLUM_ERR_INVALID);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	CHECK_INT(count_events(ANY_ID, ANY_STATE), total);
}

#else

// --- 5: no DESTROYED, but an end ---

static void rule_5_a_mapping_ends_in_silence(void) {
	// What the sessions before have left: cleanup removes nothing that is made.
	int before = gateway_mappings();
	init_with(test_config());
	int made = create_recorded(PLUM_IP_PROTOCOL_TCP, 3500);
	wait_for_event(made, PLUM_STATE_SUCCESS);
	int left = create_recorded(PLUM_IP_PROTOCOL_TCP, 3501);
	wait_for_event(left, PLUM_STATE_SUCCESS);
	long long started_ms = check_now_ms();
	CHECK_INT(plum_destroy_mapping(made), PLUM_ERR_SUCCESS);
	wait_for_the_end_of(made);
	CHECK(check_now_ms() - started_ms <= check_stretched_ms(1000));
	CHECK_INT(gateway_mappings(), before + 1);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	CHECK_INT(gateway_mappings(), before + 1);
	CHECK_INT(count_events(made, ANY_STATE), 1);
	CHECK_INT(count_events(left, ANY_STATE), 1);
}

#endif

// --- 6: after destroy has returned, no SUCCESS or FAILURE of that id runs ---

static struct {
	flag_t entered;
	flag_t leave;
	flag_t done;
} slow;

static void slow_init(void) {
	flag_init(&slow.entered);
	flag_init(&slow.leave);
	flag_init(&slow.done);
}

// Returns when another thread's plum_destroy_mapping of this id is under way.
static void stay_until_destroying(int id, plum_state_t state, const plum_mapping_t *mapping) {
	record_event(id, state, mapping);
	if (state != PLUM_STATE_SUCCESS)
		return;
	flag_raise(&slow.entered);
	long long deadline_ms = check_now_ms() + CHECK_PATIENCE_MS;
	while (queried_state(id) != PLUM_STATE_DESTROYING) {
		CHECK(check_now_ms() < deadline_ms);
		sched_yield();
	}
	// The destroying thread has marked the mapping and now waits for this callback: give it every chance to be wrong.
	for (int i = 0; i < 1000; ++i)
		sched_yield();
	flag_raise(&slow.done);
}

static void rule_6_destroy_waits_for_a_running_callback_of_its_id(void) {
	init_with(test_config());
	slow_init();
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_TCP, 3600);
	int id = plum_create_mapping(&mapping, stay_until_destroying);
	CHECK(id >= 0);
	flag_wait(&slow.entered);
	CHECK_INT(plum_destroy_mapping(id), PLUM_ERR_SUCCESS);
	CHECK(flag_is_raised(&slow.done));
	wait_for_the_end_of(id);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

// Returns when it is told to, whatever happens to its mapping.
static void stay_until_told(int id, plum_state_t state, const plum_mapping_t *mapping) {
	record_event(id, state, mapping);
	if (state != PLUM_STATE_SUCCESS)
		return;
	flag_raise(&slow.entered);
	flag_wait(&slow.leave);
	flag_raise(&slow.done);
}

static void rule_6_destroy_of_another_id_does_not_wait(void) {
	init_with(test_config());
	slow_init();
	int other = create_recorded(PLUM_IP_PROTOCOL_TCP, 3610);
	wait_for_event(other, PLUM_STATE_SUCCESS);
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_TCP, 3611);
	int id = plum_create_mapping(&mapping, stay_until_told);
	CHECK(id >= 0);
	flag_wait(&slow.entered);
	CHECK_INT(plum_destroy_mapping(other), PLUM_ERR_SUCCESS);
	CHECK(!flag_is_raised(&slow.done));
	// Its DESTROYED waits its turn: callbacks come one at a time.
	CHECK_INT(count_events(other, PLUM_STATE_DESTROYED), 0);
	flag_raise(&slow.leave);
	wait_for_the_end_of(other);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

// Memory that callbacks use, all but DESTROYED, is freed right after destroy: valgrind sees it if one still runs.
static void use_memory(int id, plum_state_t state, const plum_mapping_t *mapping) {
	record_event(id, state, mapping);
	if (state != PLUM_STATE_DESTROYED)
		++*(volatile int *)mapping->user_ptr;
}

static void rule_6_what_callbacks_use_may_be_freed_after_destroy(void) {
	init_with(test_config());
	for (int round = 0; round < 50; ++round) {
		int *memory = calloc(1, sizeof(int));
		CHECK(memory != NULL);
		plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_TCP, 3620);
		mapping.user_ptr = memory;
		int id = plum_create_mapping(&mapping, use_memory);
		CHECK(id >= 0);
		// Sometimes before, sometimes during, sometimes after the SUCCESS.
		for (int i = 0; i < round * 20; ++i)
			sched_yield();
		if (round % 3 == 0)
			wait_for_event(id, PLUM_STATE_SUCCESS);
		CHECK_INT(plum_destroy_mapping(id), PLUM_ERR_SUCCESS);
		free(memory);
	}
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

// --- 7: inside a callback everything but cleanup may be called ---

static int nested_id = -1;

static void call_everything(int id, plum_state_t state, const plum_mapping_t *mapping) {
	char buffer[PLUM_MAX_HOST_LEN];
	plum_config_t config = test_config();
	plum_state_t queried;
	plum_mapping_t copy;
	record_event(id, state, mapping);
	CHECK_INT(plum_cleanup(), PLUM_ERR_FAILED);
	CHECK_INT(plum_init(&config), PLUM_ERR_FAILED);
	plum_set_log_level(PLUM_LOG_LEVEL_WARN);
	CHECK(plum_get_local_address(buffer, sizeof(buffer)) != PLUM_ERR_FAILED);
	CHECK_INT(plum_get_dummytls_host("192.0.2.1", buffer, sizeof(buffer)), PLUM_ERR_FAILED);
	CHECK_INT(plum_get_dummytls_certificate(PLUM_DUMMYTLS_PEM_CERT, buffer, sizeof(buffer)), PLUM_ERR_FAILED);
	if (state != PLUM_STATE_SUCCESS) {
		CHECK_INT(plum_query_mapping(id, NULL, NULL), PLUM_ERR_NOT_AVAIL);
		CHECK_INT(plum_destroy_mapping(id), PLUM_ERR_NOT_AVAIL);
		return;
	}
	CHECK_INT(plum_query_mapping(id, &queried, &copy), PLUM_ERR_SUCCESS);
	CHECK_INT(queried, PLUM_STATE_SUCCESS);
	CHECK_STRING(copy.external_host, mapping->external_host);
	nested_id = create_recorded(PLUM_IP_PROTOCOL_UDP, 3701);

	// Its own id: does not wait for itself, and DESTROYED comes after this callback has returned.
	CHECK_INT(plum_destroy_mapping(id), PLUM_ERR_SUCCESS);
	CHECK_INT(queried_state(id), PLUM_STATE_DESTROYING);
	CHECK_INT(plum_destroy_mapping(id), PLUM_ERR_SUCCESS);
	CHECK_INT(count_events(id, PLUM_STATE_DESTROYED), 0);
}

static void rule_7_a_callback_may_call_the_library(void) {
	init_with(test_config());
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_TCP, 3700);
	int id = plum_create_mapping(&mapping, call_everything);
	CHECK(id >= 0);
	wait_for_event(id, PLUM_STATE_SUCCESS);
	wait_for_the_end_of(id);
	CHECK_INT(count_events(id, ANY_STATE), 1 + DESTROYED_EVENTS);
	wait_for_event(nested_id, PLUM_STATE_SUCCESS);
	CHECK_INT(plum_destroy_mapping(nested_id), PLUM_ERR_SUCCESS);
	wait_for_the_end_of(nested_id);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

#if PLUM_TEST_ABI >= 600

// Each DESTROYED creates the next mapping, as a program does that renews its choice: a chain through callbacks alone.
static int links_left;

static void make_the_next(int id, plum_state_t state, const plum_mapping_t *mapping) {
	record_event(id, state, mapping);
	if (state == PLUM_STATE_SUCCESS) {
		CHECK_INT(plum_destroy_mapping(id), PLUM_ERR_SUCCESS);
	} else if (state == PLUM_STATE_DESTROYED && links_left > 0) {
		--links_left;
		CHECK(plum_create_mapping(mapping, make_the_next) >= 0);
	}
}

static void rule_7_callbacks_may_go_on_by_themselves(void) {
	init_with(test_config());
	int destroyed = count_events(ANY_ID, PLUM_STATE_DESTROYED);
	links_left = 9;
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_UDP, 3710);
	CHECK(plum_create_mapping(&mapping, make_the_next) >= 0);
	wait_for_events(ANY_ID, PLUM_STATE_DESTROYED, destroyed + 10);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	CHECK_INT(count_events(ANY_ID, PLUM_STATE_DESTROYED), destroyed + 10);
}

#endif

// --- 8: a callback may come before create has returned ---

// So a program that needs the id in its callback takes it from the argument; the id there is the one create returns.
static int id_in_callback = -1;

static void note_id(int id, plum_state_t state, const plum_mapping_t *mapping) {
	if (state == PLUM_STATE_SUCCESS)
		id_in_callback = id;
	record_event(id, state, mapping);
}

static void rule_8_the_id_of_the_callback_is_that_of_create(void) {
	init_with(test_config());
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_TCP, 3800);
	int id = plum_create_mapping(&mapping, note_id);
	CHECK(id >= 0);
	wait_for_event(id, PLUM_STATE_SUCCESS);
	CHECK_INT(id_in_callback, id);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

// --- 9: a slow callback delays other callbacks only ---

static void rule_9_a_slow_callback_delays_no_query_and_no_create(void) {
	init_with(test_config());
	slow_init();
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_TCP, 3900);
	int id = plum_create_mapping(&mapping, stay_until_told);
	CHECK(id >= 0);
	flag_wait(&slow.entered);

	// All of these return while the callback runs, for it runs until it is told.
	CHECK_INT(queried_state(id), PLUM_STATE_SUCCESS);
	int later = create_recorded(PLUM_IP_PROTOCOL_TCP, 3901);
	CHECK_INT(queried_state(later), PLUM_STATE_PENDING);
	CHECK(!flag_is_raised(&slow.done));
	CHECK_INT(count_events(later, ANY_STATE), 0);

	flag_raise(&slow.leave);
	wait_for_event(later, PLUM_STATE_SUCCESS);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

static const row_t rows[] = {
    ROW(rule_1_all_callbacks_come_from_one_thread_of_the_library),
    ROW(rule_2_the_mapping_is_the_programs_own),
    ROW_SINCE_600(rule_3_success_again_when_the_mapping_was_lost),
    ROW_SINCE_600(rule_3_success_again_when_the_address_changed),
    ROW_SINCE_600(rule_4_failure_comes_once_and_success_may_follow),
    ROW_SINCE_600(rule_5_destroyed_comes_once_and_soon_also_when_pending),
    ROW_BEFORE_600(rule_5_a_mapping_ends_in_silence),
    ROW(rule_6_destroy_waits_for_a_running_callback_of_its_id),
    ROW(rule_6_destroy_of_another_id_does_not_wait),
    ROW(rule_6_what_callbacks_use_may_be_freed_after_destroy),
    ROW(rule_7_a_callback_may_call_the_library),
    ROW_SINCE_600(rule_7_callbacks_may_go_on_by_themselves),
    ROW(rule_8_the_id_of_the_callback_is_that_of_create),
    ROW(rule_9_a_slow_callback_delays_no_query_and_no_create),
};

int main(void) {
	check_time_limit(100);
	events_init();
	main_thread = pthread_self();
	CHECK_ROWS(rows);
	check_all_destroyed_once();
	return 0;
}
