// In the child of a fork every function fails and nothing is sent; the parent does not notice.

#include "events.h"
#include "gateway.h"

#include <sys/wait.h>

static void say(int to, char what) {
	CHECK(write(to, &what, 1) == 1);
}

// What the child finds out goes through a pipe, and then it kills itself: it must not run the parent's exit
// handlers, nor a leak check over memory that belongs to the worker it does not have.
static void child(int id, int to_parent) {
	char buffer[PLUM_MAX_HOST_LEN];
	plum_config_t config = test_config();
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_TCP, 6001);
	plum_state_t state;
	int good = 1;
	good &= plum_query_mapping(id, &state, NULL) == PLUM_ERR_FAILED;
	good &= plum_create_mapping(&mapping, record_event) == PLUM_ERR_FAILED;
	good &= plum_destroy_mapping(id) == PLUM_ERR_FAILED;
	good &= plum_get_dummytls_host("192.0.2.1", buffer, sizeof(buffer)) == PLUM_ERR_FAILED;
	good &= plum_get_dummytls_certificate(PLUM_DUMMYTLS_PEM_CERT, buffer, sizeof(buffer)) == PLUM_ERR_FAILED;
	plum_set_log_level(PLUM_LOG_LEVEL_VERBOSE);
	good &= plum_cleanup() == PLUM_ERR_FAILED;
	good &= plum_get_local_address(buffer, sizeof(buffer)) == PLUM_ERR_FAILED;
	good &= plum_init(&config) == PLUM_ERR_FAILED;
	good &= plum_cleanup() == PLUM_ERR_FAILED;
	say(to_parent, good ? 'g' : 'b');
	kill(getpid(), SIGKILL);
}

static void fork_a_child(int id) {
	int ends[2];
	CHECK(pipe(ends) == 0);
	fflush(NULL);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0)
		child(id, ends[1]);
	close(ends[1]);
	char answer = '?';
	CHECK(read(ends[0], &answer, 1) == 1);
	CHECK_INT(answer, 'g');
	close(ends[0]);
	CHECK(waitpid(pid, NULL, 0) == pid);
}

// Children of a program whose worker is busy: whatever lock that worker holds at the fork, no child waits for it.
static void fork_while_busy(void) {
	for (int round = 0; round < 20; ++round) {
		int ids[5];
		for (int i = 0; i < 5; ++i)
			ids[i] = create_recorded(PLUM_IP_PROTOCOL_UDP, 6100 + i);
		fork_a_child(ids[0]);
		for (int i = 0; i < 5; ++i)
			CHECK_INT(plum_destroy_mapping(ids[i]), PLUM_ERR_SUCCESS);
	}
}

// --- forks while other threads are inside the library, each holding what lock it may ---

enum { CALLERS = 4, FORKS = 40 };

static pthread_mutex_t stop_mutex = PTHREAD_MUTEX_INITIALIZER;
static int stop;

static int is_stopped(void) {
	pthread_mutex_lock(&stop_mutex);
	int stopped = stop;
	pthread_mutex_unlock(&stop_mutex);
	return stopped;
}

static void *call_everything(void *unused) {
	(void)unused;
	plum_config_t config = test_config();
	for (int round = 0; !is_stopped(); ++round) {
		char buffer[PLUM_MAX_ADDRESS_LEN];
		plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_UDP, 6200 + round % 8);
		int id = plum_create_mapping(&mapping, NULL);
		plum_query_mapping(id, NULL, &mapping);
		plum_get_local_address(buffer, sizeof(buffer));
		if (round % 4 != 0)
			plum_destroy_mapping(id);
		if (round % 50 == 49)
			plum_cleanup();
		int result = plum_init(&config);
		CHECK(result == PLUM_ERR_SUCCESS || result == PLUM_ERR_FAILED);
	}
	return NULL;
}

static void fork_while_threads_call(void) {
	pthread_t threads[CALLERS];
	for (int i = 0; i < CALLERS; ++i)
		CHECK(pthread_create(&threads[i], NULL, call_everything, NULL) == 0);
	for (int i = 0; i < FORKS; ++i)
		fork_a_child(0);
	pthread_mutex_lock(&stop_mutex);
	stop = 1;
	pthread_mutex_unlock(&stop_mutex);
	for (int i = 0; i < CALLERS; ++i)
		CHECK(pthread_join(threads[i], NULL) == 0);
	int result = plum_cleanup();
	CHECK(result == PLUM_ERR_SUCCESS || result == PLUM_ERR_FAILED);
	CHECK_INT(gateway_mappings(), 0);
}

int main(void) {
	check_time_limit(100);
	events_init();
	// In ABI 0.5, too: what is left on the gateway would be a child's doing.
	CHECK(setenv("PLUM_ON_CLEANUP", "remove", 1) == 0);

	plum_config_t config = test_config();
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	int id = create_recorded(PLUM_IP_PROTOCOL_TCP, 6000);
	fork_a_child(id); // the mapping is pending
	wait_for_event(id, PLUM_STATE_SUCCESS);
	fork_a_child(id); // and made

	// The child's destroy and cleanup have removed nothing.
	CHECK_INT(queried_state(id), PLUM_STATE_SUCCESS);
	CHECK_INT(gateway_mappings(), 1);

	fork_while_busy();
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	CHECK_INT(gateway_mappings(), 0);
	check_all_destroyed_once();

	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	fork_a_child(0); // initialised, no mapping yet
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);

	fork_while_threads_call();
	return 0;
}
