// All functions from many threads at once, init and cleanup against all others.

#include "events.h"

enum { THREADS = 8, ROUNDS = 300 };

// One count a mapping created, at the place its user_ptr points to.
typedef struct {
	int created;   // create returned an id
	int destroyed; // DESTROYED callbacks
} slot_t;

static slot_t slots[THREADS][ROUNDS];
static pthread_mutex_t slots_mutex = PTHREAD_MUTEX_INITIALIZER;

static void count_destroyed(int id, plum_state_t state, const plum_mapping_t *mapping) {
	(void)id;
	slot_t *slot = mapping->user_ptr;
	pthread_mutex_lock(&slots_mutex);
	CHECK_INT(slot->destroyed, 0); // nothing after DESTROYED
	if (state == PLUM_STATE_DESTROYED)
		slot->destroyed = 1;
	pthread_mutex_unlock(&slots_mutex);
}

static void check_slots(void) {
	for (int thread = 0; thread < THREADS; ++thread)
		for (int round = 0; round < ROUNDS; ++round)
			CHECK_INT(slots[thread][round].destroyed, slots[thread][round].created * DESTROYED_EVENTS);
	memset(slots, 0, sizeof(slots));
}

// A small generator of its own for each thread: the same run every time, as far as threads allow.
static unsigned int next_random(unsigned int *state) {
	*state = *state * 1664525u + 1013904223u;
	return *state >> 16;
}

typedef struct {
	int number;
	int starts_and_ends; // whether it calls init and cleanup too
} task_t;

static void *do_anything(void *argument) {
	const task_t *task = argument;
	unsigned int random = 12345u + (unsigned int)task->number;
	int last_id = 0;
	for (int round = 0; round < ROUNDS; ++round) {
		slot_t *slot = &slots[task->number][round];
		char buffer[PLUM_MAX_ADDRESS_LEN];
		plum_state_t state;
		plum_mapping_t mapping;
		plum_config_t config = test_config();
		int result;
		switch (next_random(&random) % (task->starts_and_ends ? 8 : 6)) {
		case 0:
		case 1:
			mapping = wanted_mapping(next_random(&random) % 2 ? PLUM_IP_PROTOCOL_TCP : PLUM_IP_PROTOCOL_UDP,
			                         (int)(4000 + next_random(&random) % 16));
			mapping.user_ptr = slot;
			result = plum_create_mapping(&mapping, count_destroyed);
			CHECK(result >= 0 || (task->starts_and_ends && result == PLUM_ERR_FAILED));
			if (result >= 0) {
				last_id = result;
				slot->created = 1;
			}
			break;
		case 2:
			result = plum_query_mapping(last_id, &state, &mapping);
			CHECK(result == PLUM_ERR_SUCCESS || result == PLUM_ERR_NOT_AVAIL || result == PLUM_ERR_FAILED);
			if (result == PLUM_ERR_SUCCESS)
				CHECK(state != PLUM_STATE_DESTROYED);
			break;
		case 3:
			// Somebody else's as likely as one's own.
			result = plum_destroy_mapping(last_id - (int)(next_random(&random) % 4));
			CHECK(result <= PLUM_ERR_SUCCESS);
			break;
		case 4:
			CHECK(plum_get_local_address(buffer, sizeof(buffer)) != PLUM_ERR_FAILED);
			break;
		case 5:
			plum_set_log_level(PLUM_LOG_LEVEL_WARN);
			sched_yield();
			break;
		case 6:
			result = plum_init(&config);
			CHECK(result == PLUM_ERR_SUCCESS || result == PLUM_ERR_FAILED);
			break;
		default:
			result = plum_cleanup();
			CHECK(result == PLUM_ERR_SUCCESS || result == PLUM_ERR_FAILED);
			break;
		}
	}
	return NULL;
}

static void run_threads(int starts_and_ends) {
	pthread_t threads[THREADS];
	task_t tasks[THREADS];
	for (int i = 0; i < THREADS; ++i) {
		tasks[i].number = i;
		tasks[i].starts_and_ends = starts_and_ends;
		CHECK(pthread_create(&threads[i], NULL, do_anything, &tasks[i]) == 0);
	}
	for (int i = 0; i < THREADS; ++i)
		CHECK(pthread_join(threads[i], NULL) == 0);
}

static void mappings_of_many_threads_are_each_destroyed_once(void) {
	plum_config_t config = test_config();
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	run_threads(0);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	check_slots();
}

static void init_and_cleanup_may_race_with_everything(void) {
	run_threads(1);
	int result = plum_cleanup();
	CHECK(result == PLUM_ERR_SUCCESS || result == PLUM_ERR_FAILED);
	check_slots();
}

// --- of several inits, or cleanups, at the same moment exactly one wins ---

static pthread_barrier_t barrier;
static int successes;

static void *init_and_clean_up(void *unused) {
	(void)unused;
	plum_config_t config = test_config();
	for (int round = 0; round < 20; ++round) {
		pthread_barrier_wait(&barrier);
		int initialised = plum_init(&config);
		pthread_barrier_wait(&barrier);
		int cleaned = plum_cleanup();
		CHECK(initialised == PLUM_ERR_SUCCESS || initialised == PLUM_ERR_FAILED);
		CHECK(cleaned == PLUM_ERR_SUCCESS || cleaned == PLUM_ERR_FAILED);
		// Whoever failed has waited: nobody's cleanup is under way now.
		CHECK_INT(plum_query_mapping(0, NULL, NULL), PLUM_ERR_FAILED);
		pthread_mutex_lock(&slots_mutex);
		successes += (initialised == PLUM_ERR_SUCCESS) + (cleaned == PLUM_ERR_SUCCESS);
		pthread_mutex_unlock(&slots_mutex);
	}
	return NULL;
}

static void one_init_and_one_cleanup_win(void) {
	pthread_t threads[THREADS];
	CHECK(pthread_barrier_init(&barrier, NULL, THREADS) == 0);
	for (int i = 0; i < THREADS; ++i)
		CHECK(pthread_create(&threads[i], NULL, init_and_clean_up, NULL) == 0);
	for (int i = 0; i < THREADS; ++i)
		CHECK(pthread_join(threads[i], NULL) == 0);
	CHECK(pthread_barrier_destroy(&barrier) == 0);
	CHECK_INT(successes, 20 * 2);
}

static const row_t rows[] = {
    ROW(mappings_of_many_threads_are_each_destroyed_once),
    ROW(init_and_cleanup_may_race_with_everything),
    ROW(one_init_and_one_cleanup_win),
};

int main(void) {
	check_time_limit(200);
	CHECK_ROWS(rows);
	return 0;
}
