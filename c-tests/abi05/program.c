// A program of the time of libplum 0.5: it frees what its callbacks use as soon as plum_destroy_mapping or plum_cleanup has
// returned, and knows states 2 and 3 only. All structs are on the heap, exactly as large as they were then, so that valgrind
// sees a byte read or written too many, and a callback that comes too late.

#include "../check.h"
#include "../gateway.h"
#include "plum-0.5.h"

enum { ROUNDS = 40, LEFT = 5, IDS = ROUNDS + LEFT + 1 };

// What a callback uses.
typedef struct {
	uint16_t internal_port;
	enum_t state;
	uint16_t external_port;
} data_t;

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	int ended[IDS]; // destroy has returned
	int successes[IDS];
} seen = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void on_event(int id, enum_t state, const mapping_t *mapping) {
	CHECK(id >= 0 && id < IDS);
	CHECK(state == SUCCESS || state == FAILURE);
	pthread_mutex_lock(&seen.mutex);
	CHECK(!seen.ended[id]);
	pthread_mutex_unlock(&seen.mutex);

	data_t *data = mapping->user_ptr;
	CHECK_INT(mapping->internal_port, data->internal_port);
	CHECK_INT(mapping->protocol, data->internal_port % 2 ? UDP : TCP);
	if (state == SUCCESS) {
		CHECK_STRING(mapping->external_host, gateway_external_address());
		CHECK(mapping->external_port != 0);
	} else {
		CHECK_STRING(mapping->external_host, "");
		CHECK_INT(mapping->external_port, 0);
	}
	data->state = state;
	data->external_port = mapping->external_port;

	pthread_mutex_lock(&seen.mutex);
	seen.successes[id] += state == SUCCESS;
	pthread_cond_broadcast(&seen.changed);
	pthread_mutex_unlock(&seen.mutex);
}

static void wait_for_success(int id) {
	long long deadline_ms = check_now_ms() + CHECK_PATIENCE_MS;
	pthread_mutex_lock(&seen.mutex);
	while (seen.successes[id] == 0)
		CHECK(check_wait_until(&seen.changed, &seen.mutex, deadline_ms) || seen.successes[id] != 0);
	pthread_mutex_unlock(&seen.mutex);
}

static void note_end(int id) {
	pthread_mutex_lock(&seen.mutex);
	seen.ended[id] = 1;
	pthread_mutex_unlock(&seen.mutex);
}

static void *allocate(size_t size) {
	void *memory = calloc(1, size);
	CHECK(memory != NULL);
	return memory;
}

static int create(int port, data_t **data) {
	mapping_t *mapping = allocate(sizeof(*mapping));
	*data = allocate(sizeof(**data));
	(*data)->internal_port = (uint16_t)port;
	mapping->protocol = port % 2 ? UDP : TCP;
	mapping->internal_port = (uint16_t)port;
	mapping->user_ptr = *data;
	int id = plum_create_mapping(mapping, on_event);
	CHECK(id >= 0);
	free(mapping);
	return id;
}

static void a_query_tells_what_the_callback_told(int id, const data_t *data) {
	enum_t state = DESTROYED;
	mapping_t *mapping = allocate(sizeof(*mapping));
	CHECK_INT(plum_query_mapping(id, &state, mapping), ERR_SUCCESS);
	CHECK_INT(state, SUCCESS);
	CHECK_INT(mapping->protocol, data->internal_port % 2 ? UDP : TCP);
	CHECK_INT(mapping->internal_port, data->internal_port);
	CHECK_INT(mapping->external_port, data->external_port);
	CHECK_STRING(mapping->external_host, gateway_external_address());
	CHECK(mapping->user_ptr == data);
	free(mapping);
}

static void data_may_be_freed_right_after_destroy(void) {
	for (int round = 0; round < ROUNDS; ++round) {
		data_t *data;
		int id = create(2000 + round, &data);
		// Sometimes before, sometimes during, sometimes after the SUCCESS.
		for (int i = 0; i < round * 20; ++i)
			sched_yield();
		if (round % 3 == 0) {
			wait_for_success(id);
			a_query_tells_what_the_callback_told(id, data);
		}
		CHECK_INT(plum_destroy_mapping(id), ERR_SUCCESS);
		note_end(id);
		memset(data, 0xdd, sizeof(*data));
		free(data);
		int result = plum_query_mapping(id, NULL, NULL);
		CHECK(result == ERR_SUCCESS || result == ERR_NOT_AVAIL);
	}
}

static void data_may_be_freed_right_after_cleanup(void) {
	int ids[LEFT];
	data_t *data[LEFT];
	for (int i = 0; i < LEFT; ++i)
		ids[i] = create(3000 + i, &data[i]);
	wait_for_success(ids[0]);
	CHECK_INT(plum_cleanup(), ERR_SUCCESS);
	int made = 0;
	for (int i = 0; i < LEFT; ++i) {
		note_end(ids[i]);
		made += seen.successes[ids[i]];
		free(data[i]);
	}
	// It plays on: the port that it has stays open.
	int left = gateway_mappings();
	CHECK(left >= made && left <= LEFT);
}

static void the_rest_is_there_too(void) {
	char buffer[HOST_LEN];
	int length = plum_get_local_address(buffer, ADDRESS_LEN);
	CHECK(length == ERR_NOT_AVAIL || (length > 0 && strlen(buffer) == (size_t)length));
	CHECK_INT(plum_get_dummytls_host("192.0.2.1", buffer, sizeof(buffer)), ERR_FAILED);
	CHECK_INT(plum_get_dummytls_certificate(PEM_CERT, buffer, sizeof(buffer)), ERR_FAILED);
	CHECK_INT(plum_destroy_mapping(-1), ERR_INVALID);
	CHECK_INT(plum_query_mapping(IDS, NULL, NULL), ERR_NOT_AVAIL);
}

int main(void) {
	check_time_limit(100);
	check_condition_init(&seen.changed);

	config_t *config = allocate(sizeof(*config));
	config->log_level = LOG_WARN;
	CHECK_INT(plum_init(config), ERR_SUCCESS);
	free(config);
	the_rest_is_there_too();
	data_may_be_freed_right_after_destroy();
	data_may_be_freed_right_after_cleanup();
	CHECK_INT(plum_cleanup(), ERR_FAILED);
	return 0;
}
