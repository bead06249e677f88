// init, cleanup and what lies between, again and again.

#include "events.h"

static void init(void) {
	plum_config_t config = test_config();
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
}

// cleanup, within the time it promises when the gateway answers (or never did).
static void cleanup_within(long long ms) {
	long long started_ms = check_now_ms();
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	long long took_ms = check_now_ms() - started_ms;
	if (took_ms > check_stretched_ms(ms))
		check_failed(__FILE__, __LINE__, "plum_cleanup took %lld ms", took_ms);
}

static void ids_are_never_given_out_twice(void) {
	init();
	int first = create_recorded(PLUM_IP_PROTOCOL_TCP, 2000);
	CHECK_INT(first, 0);
	CHECK_INT(plum_destroy_mapping(first), PLUM_ERR_SUCCESS);
	wait_for_the_end_of(first);
	int second = create_recorded(PLUM_IP_PROTOCOL_TCP, 2000);
	CHECK_INT(second, 1);
	CHECK_INT(plum_destroy_mapping(first), PLUM_ERR_NOT_AVAIL);
	cleanup_within(1000);

	init();
	int third = create_recorded(PLUM_IP_PROTOCOL_TCP, 2000);
	CHECK_INT(third, 2);
	CHECK_INT(plum_query_mapping(second, NULL, NULL), PLUM_ERR_NOT_AVAIL);
	cleanup_within(1000);
}

static void cleanup_destroys_every_mapping_before_it_returns(void) {
	enum { COUNT = 30 };
	int ids[COUNT];
	init();
	for (int i = 0; i < COUNT; ++i)
		ids[i] = create_recorded(i % 2 ? PLUM_IP_PROTOCOL_TCP : PLUM_IP_PROTOCOL_UDP, 2100 + i);
	// Some are made, some are still pending, some are being destroyed.
	wait_for_event(ids[0], PLUM_STATE_SUCCESS);
	CHECK_INT(plum_destroy_mapping(ids[1]), PLUM_ERR_SUCCESS);
	CHECK_INT(plum_destroy_mapping(ids[COUNT - 1]), PLUM_ERR_SUCCESS);
	cleanup_within(1500);
	for (int i = 0; i < COUNT; ++i)
		CHECK_INT(count_events(ids[i], PLUM_STATE_DESTROYED), DESTROYED_EVENTS);
	int total = count_events(ANY_ID, ANY_STATE);

	// Afterwards nothing comes any more, also while the library lives its next life.
	init();
	int id = create_recorded(PLUM_IP_PROTOCOL_TCP, 2200);
	wait_for_event(id, PLUM_STATE_SUCCESS);
	cleanup_within(1000);
	CHECK_INT(count_events(ANY_ID, ANY_STATE), total + 1 + DESTROYED_EVENTS);
}

static void lives_many_times(void) {
	for (int round = 0; round < 20; ++round) {
		init();
		CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
		CHECK_INT(plum_cleanup(), PLUM_ERR_FAILED);
	}
	for (int round = 0; round < 10; ++round) {
		init();
		int id = create_recorded(PLUM_IP_PROTOCOL_TCP, 2300);
		if (round % 2)
			wait_for_event(id, PLUM_STATE_SUCCESS);
		cleanup_within(1000);
		CHECK_INT(count_events(id, PLUM_STATE_DESTROYED), DESTROYED_EVENTS);
	}
}

#if PLUM_TEST_ABI >= 600

// --- two cleanups at the same time ---

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	int entered; // the DESTROYED callback runs
	int second_called;
	int callback_done;
} race = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void hold_the_destroyed_callback(int id, plum_state_t state, const plum_mapping_t *mapping) {
	record_event(id, state, mapping);
	if (state != PLUM_STATE_DESTROYED)
		return;
	// From its start, cleanup makes create and init fail, and the id is gone; queries still work.
	plum_config_t config = test_config();
	plum_mapping_t another = wanted_mapping(PLUM_IP_PROTOCOL_TCP, 2401);
	CHECK_INT(plum_create_mapping(&another, NULL), PLUM_ERR_FAILED);
	CHECK_INT(plum_init(&config), PLUM_ERR_FAILED);
	CHECK_INT(plum_query_mapping(id, NULL, NULL), PLUM_ERR_NOT_AVAIL);
	CHECK_INT(plum_destroy_mapping(id), PLUM_ERR_NOT_AVAIL);

	long long deadline_ms = check_now_ms() + CHECK_PATIENCE_MS;
	pthread_mutex_lock(&race.mutex);
	race.entered = 1;
	pthread_cond_broadcast(&race.changed);
	while (!race.second_called)
		CHECK(check_wait_until(&race.changed, &race.mutex, deadline_ms));
	race.callback_done = 1;
	pthread_mutex_unlock(&race.mutex);
}

static void *clean_up_first(void *unused) {
	(void)unused;
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	return NULL;
}

static void *clean_up_second(void *unused) {
	(void)unused;
	pthread_mutex_lock(&race.mutex);
	race.second_called = 1;
	pthread_cond_broadcast(&race.changed);
	pthread_mutex_unlock(&race.mutex);
	CHECK_INT(plum_cleanup(), PLUM_ERR_FAILED);
	// It has waited for the first: the callback that the first one waits for is over.
	pthread_mutex_lock(&race.mutex);
	CHECK(race.callback_done);
	pthread_mutex_unlock(&race.mutex);
	return NULL;
}

static void a_second_cleanup_waits_for_the_first(void) {
	pthread_t first, second;
	check_condition_init(&race.changed);
	init();
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_TCP, 2400);
	CHECK(plum_create_mapping(&mapping, hold_the_destroyed_callback) >= 0);
	CHECK(pthread_create(&first, NULL, clean_up_first, NULL) == 0);

	long long deadline_ms = check_now_ms() + CHECK_PATIENCE_MS;
	pthread_mutex_lock(&race.mutex);
	while (!race.entered)
		CHECK(check_wait_until(&race.changed, &race.mutex, deadline_ms));
	pthread_mutex_unlock(&race.mutex);

	CHECK(pthread_create(&second, NULL, clean_up_second, NULL) == 0);
	CHECK(pthread_join(first, NULL) == 0);
	CHECK(pthread_join(second, NULL) == 0);
	CHECK_INT(plum_cleanup(), PLUM_ERR_FAILED);
}

#endif

static const row_t rows[] = {
    ROW(ids_are_never_given_out_twice),
    ROW(cleanup_destroys_every_mapping_before_it_returns),
    ROW(lives_many_times),
    ROW_SINCE_600(a_second_cleanup_waits_for_the_first),
};

int main(void) {
	check_time_limit(100);
	events_init();
	CHECK_ROWS(rows);
	check_all_destroyed_once();
	return 0;
}
