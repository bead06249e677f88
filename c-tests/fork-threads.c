// Forks while other threads are inside the library, each holding what lock it may, and while callbacks run: fork-threads
// callback|stdout: where the log goes. Each child has a mapping made and ends its session.

#include "fork.h"

#include <fcntl.h>

enum { CALLERS = 8, FORKS = 300, FORKS_SLOWED = 20, PORTS = 8, CHILD_PORT = 6500 };

static plum_config_t config;

static pthread_mutex_t stop_mutex = PTHREAD_MUTEX_INITIALIZER;
static int stop;

static int is_stopped(void) {
	pthread_mutex_lock(&stop_mutex);
	int stopped = stop;
	pthread_mutex_unlock(&stop_mutex);
	return stopped;
}

// A log callback that takes its time, but no lock of the program's: the child could find that held.
static void log_slowly(plum_log_level_t level, const char *message) {
	(void)level;
	CHECK(strlen(message) > 0);
	sched_yield();
}

static void hear_slowly(int id, plum_state_t state, const plum_mapping_t *mapping) {
	CHECK(id >= 0 && mapping != NULL);
	(void)state;
	sched_yield();
}

static void *call_everything(void *unused) {
	(void)unused;
	for (int round = 0; !is_stopped(); ++round) {
		char buffer[PLUM_MAX_HOST_LEN];
		plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_UDP, 6200 + round % PORTS);
		int id = plum_create_mapping(&mapping, round % 2 ? hear_slowly : NULL);
		plum_query_mapping(id, NULL, &mapping);
		plum_get_local_address(buffer, sizeof(buffer));
		plum_get_dummytls_host("192.0.2.1", buffer, sizeof(buffer));
		plum_set_log_level(PLUM_LOG_LEVEL_VERBOSE);
		if (round % 4 != 0)
			plum_destroy_mapping(id);
		if (round % 50 == 49)
			plum_cleanup();
		int result = plum_init(&config);
		CHECK(result == PLUM_ERR_SUCCESS || result == PLUM_ERR_FAILED);
	}
	return NULL;
}

// Nobody knows whether the parent was initialised at that moment.
static void child(void) {
	int result = plum_init(&config);
	CHECK(result == PLUM_ERR_SUCCESS || result == PLUM_ERR_FAILED);
	cleanup_in_child(map_in_child(CHILD_PORT, -1));
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

int main(int argc, char *argv[]) {
	CHECK(argc == 2);
	check_time_limit(230);
	events_init();
	CHECK(setenv("PLUM_ON_CLEANUP", "remove", 1) == 0);
	config = test_config();
	config.log_level = PLUM_LOG_LEVEL_VERBOSE;
	if (strcmp(argv[1], "callback") == 0) {
		config.log_callback = log_slowly;
	} else {
		// Its many lines go nowhere.
		int nowhere = open("/dev/null", O_WRONLY);
		CHECK(nowhere >= 0 && dup2(nowhere, STDOUT_FILENO) == STDOUT_FILENO);
		close(nowhere);
	}
	// What is set up once is: musl (1.2.3) has a lock for keys of thread-local data, which it leaves as it is at a fork, and Rust
	// makes one with the first call of the library.
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	pthread_t threads[CALLERS];
	for (int i = 0; i < CALLERS; ++i)
		CHECK(pthread_create(&threads[i], NULL, call_everything, NULL) == 0);
	int forks = check_stretched_ms(1) == 1 ? FORKS : FORKS_SLOWED;
	for (int i = 0; i < forks; ++i)
		run_child(child);
	pthread_mutex_lock(&stop_mutex);
	stop = 1;
	pthread_mutex_unlock(&stop_mutex);
	for (int i = 0; i < CALLERS; ++i)
		CHECK(pthread_join(threads[i], NULL) == 0);
	int result = plum_cleanup();
	CHECK(result == PLUM_ERR_SUCCESS || result == PLUM_ERR_FAILED);
	// Of the children's. A session that ends before the gateway was heard does not wait for its deletions, which a busy gateway may miss.
	CHECK_INT(gateway_lines("table", "TCP"), 0);
	return 0;
}
