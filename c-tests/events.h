// What the library told the program: a callback that records its calls, and ways to wait for them.

#ifndef PLUM_EVENTS_H
#define PLUM_EVENTS_H

#include "check.h"
#include <plum/plum.h>

// The programs are built for all ABIs. In 0.5 no callback tells of the end of a mapping, so nobody can wait for one; the
// config chooses no times; nobody says who made a mapping. In 0.5 and 0.6.0 it chooses no protocols, and the log threshold stays as it is.
enum { DESTROYED_EVENTS = PLUM_TEST_ABI >= 600 };
#if PLUM_TEST_ABI < 602
static inline void plum_set_log_level(plum_log_level_t level) {
	(void)level;
}
#endif

#define EVENTS_MAX 4096
#define ANY_ID (-1)
#define ANY_STATE (-1)

typedef struct {
	int id;
	plum_state_t state;
	plum_mapping_t mapping;
	pthread_t thread;
	long long at_ms;
} event_t;

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	int count;
	int running; // callbacks under way: never above 1
	event_t list[EVENTS_MAX];
} events = {.mutex = PTHREAD_MUTEX_INITIALIZER};

// Call it once, before the library can call back.
static inline void events_init(void) {
	check_condition_init(&events.changed);
}

// A plum_mapping_callback_t. It checks what holds for every call.
static inline void record_event(int id, plum_state_t state, const plum_mapping_t *mapping) {
	CHECK(mapping != NULL);
	CHECK(state == PLUM_STATE_SUCCESS || state == PLUM_STATE_FAILURE ||
	      (DESTROYED_EVENTS && state == PLUM_STATE_DESTROYED));
	CHECK(memchr(mapping->external_host, '\0', sizeof(mapping->external_host)) != NULL);
	if (state == PLUM_STATE_SUCCESS) {
		CHECK(mapping->external_host[0] != '\0');
		CHECK(mapping->external_port != 0);
#if PLUM_TEST_ABI >= 600
		CHECK(mapping->mapping_protocol != PLUM_MAPPING_PROTOCOL_UNKNOWN);
#endif
	} else {
		CHECK_STRING(mapping->external_host, "");
		CHECK_INT(mapping->external_port, 0);
	}

	pthread_mutex_lock(&events.mutex);
	CHECK_INT(++events.running, 1);
	CHECK(events.count < EVENTS_MAX);
	event_t *event = &events.list[events.count++];
	event->id = id;
	event->state = state;
	event->mapping = *mapping;
	event->thread = pthread_self();
	event->at_ms = check_now_ms();
	--events.running;
	pthread_cond_broadcast(&events.changed);
	pthread_mutex_unlock(&events.mutex);
}

static inline int event_matches(const event_t *event, int id, int state) {
	return (id == ANY_ID || event->id == id) && (state == ANY_STATE || (int)event->state == state);
}

static inline int count_events_locked(int id, int state) {
	int count = 0;
	for (int i = 0; i < events.count; ++i)
		count += event_matches(&events.list[i], id, state);
	return count;
}

// How many such events there have been.
static inline int count_events(int id, int state) {
	pthread_mutex_lock(&events.mutex);
	int count = count_events_locked(id, state);
	pthread_mutex_unlock(&events.mutex);
	return count;
}

// Waits until there have been so many such events; returns the last of them.
static inline event_t wait_for_events(int id, int state, int number) {
	event_t found;
	long long deadline_ms = check_now_ms() + CHECK_PATIENCE_MS;
	pthread_mutex_lock(&events.mutex);
	while (count_events_locked(id, state) < number) {
		if (!check_wait_until(&events.changed, &events.mutex, deadline_ms) &&
		    count_events_locked(id, state) < number) {
			for (int i = 0; i < events.count; ++i)
				fprintf(stderr, "event %d: id %d, state %d, %s:%d\n", i, events.list[i].id,
				        (int)events.list[i].state, events.list[i].mapping.external_host,
				        (int)events.list[i].mapping.external_port);
			check_failed(__FILE__, __LINE__, "event %d of id %d, state %d did not come", number, id, state);
		}
	}
	int i = 0;
	for (int seen = 0; seen < number; ++i)
		seen += event_matches(&events.list[i], id, state);
	found = events.list[i - 1];
	pthread_mutex_unlock(&events.mutex);
	return found;
}

// Waits for the first such event.
static inline event_t wait_for_event(int id, int state) {
	return wait_for_events(id, state, 1);
}

// Waits until a mapping that is being destroyed is gone, and its callback, if there is one to come, has been called.
static inline void wait_for_the_end_of(int id) {
	if (DESTROYED_EVENTS) {
		wait_for_event(id, PLUM_STATE_DESTROYED);
		return;
	}
	long long deadline_ms = check_now_ms() + CHECK_PATIENCE_MS;
	while (plum_query_mapping(id, NULL, NULL) != PLUM_ERR_NOT_AVAIL) {
		CHECK(check_now_ms() < deadline_ms);
		sched_yield();
	}
}

// The last event of every id seen is its one DESTROYED, since ABI 0.6. For the end of a program, after plum_cleanup.
static inline void check_all_destroyed_once(void) {
	pthread_mutex_lock(&events.mutex);
	for (int i = 0; i < events.count; ++i) {
		int id = events.list[i].id;
		CHECK_INT(count_events_locked(id, PLUM_STATE_DESTROYED), DESTROYED_EVENTS);
		if (events.list[i].state == PLUM_STATE_DESTROYED)
			for (int later = i + 1; later < events.count; ++later)
				CHECK(events.list[later].id != id);
	}
	pthread_mutex_unlock(&events.mutex);
}

// --- starting and asking ---

// A configuration that reports warnings and worse, and looks again at short intervals.
static inline plum_config_t test_config(void) {
	plum_config_t config;
	memset(&config, 0, sizeof(config));
	config.log_level = PLUM_LOG_LEVEL_WARN;
	return config;
}

static inline plum_mapping_t wanted_mapping(plum_ip_protocol_t protocol, int internal_port) {
	plum_mapping_t mapping;
	memset(&mapping, 0, sizeof(mapping));
	mapping.protocol = protocol;
	mapping.internal_port = (uint16_t)internal_port;
	return mapping;
}

// Creates a mapping that is recorded.
static inline int create_recorded(plum_ip_protocol_t protocol, int internal_port) {
	plum_mapping_t mapping = wanted_mapping(protocol, internal_port);
	int id = plum_create_mapping(&mapping, record_event);
	CHECK(id >= 0);
	return id;
}

// Who made a mapping, where that is told; the values of plum_mapping_protocol_t.
enum { BY_PCP = 1, BY_NATPMP = 2, BY_UPNP = 3 };

static inline void check_made_by(const plum_mapping_t *mapping, int expected) {
#if PLUM_TEST_ABI < 600
	(void)mapping;
	(void)expected;
#else
	CHECK_INT(mapping->mapping_protocol, expected);
#endif
}

// The state as plum_query_mapping shows it.
static inline plum_state_t queried_state(int id) {
	plum_state_t state;
	CHECK_INT(plum_query_mapping(id, &state, NULL), PLUM_ERR_SUCCESS);
	return state;
}

#endif
