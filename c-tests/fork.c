// In the child of a fork the library stands as in the parent, but without mappings and with a worker of its own, started when
// it is needed. The parent does not notice.

#define _XOPEN_SOURCE 700
#include "fork.h"

#include <spawn.h>

#ifdef REFUSE_WIPED_PAGES
#include "refuse-wiped-pages.h"
#endif

extern char **environ;

enum { CHILD_PORT = 6500 };

static int newest_id;

// The parent is initialised, and `newest_id` is its newest id.
static void child_of_initialised(void) {
	char buffer[PLUM_MAX_HOST_LEN];
	plum_config_t config = test_config();
	plum_state_t state;
	CHECK_INT(plum_init(&config), PLUM_ERR_FAILED);
	int parents = newest_id >= 0 ? newest_id : 0;
	CHECK_INT(plum_query_mapping(parents, &state, NULL), PLUM_ERR_NOT_AVAIL);
	CHECK_INT(plum_destroy_mapping(parents), PLUM_ERR_NOT_AVAIL);
	CHECK_INT(plum_query_mapping(-1, NULL, NULL), PLUM_ERR_INVALID);
	CHECK_INT(plum_get_dummytls_host("192.0.2.1", buffer, sizeof(buffer)), PLUM_ERR_FAILED);
	CHECK_INT(plum_get_dummytls_certificate(PLUM_DUMMYTLS_PEM_CERT, buffer, sizeof(buffer)), PLUM_ERR_FAILED);
	int length = plum_get_local_address(buffer, sizeof(buffer));
	CHECK(length == PLUM_ERR_NOT_AVAIL || length == (int)strlen(buffer));
	int id = map_in_child(CHILD_PORT, newest_id);
	CHECK_INT(plum_destroy_mapping(id), PLUM_ERR_SUCCESS);
	wait_for_the_end_of(id);
	int again = create_recorded(PLUM_IP_PROTOCOL_UDP, CHILD_PORT);
	CHECK(again > id);
	wait_for_event(again, PLUM_STATE_SUCCESS);
	cleanup_in_child(again);
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

// The parent is not initialised.
static void child_of_uninitialised(void) {
	plum_config_t config = test_config();
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_TCP, CHILD_PORT);
	CHECK_INT(plum_cleanup(), PLUM_ERR_FAILED);
	CHECK_INT(plum_query_mapping(newest_id, NULL, NULL), PLUM_ERR_FAILED);
	CHECK_INT(plum_create_mapping(&mapping, NULL), PLUM_ERR_FAILED);
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	cleanup_in_child(map_in_child(CHILD_PORT, newest_id));
}

// A server that forks workers: each begins anew.
static void child_that_begins_anew(void) {
	plum_config_t config = test_config();
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	cleanup_in_child(map_in_child(CHILD_PORT, newest_id));
}

// A child that does nothing but end its copy.
static void child_that_cleans_up(void) {
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

// A child that ends with a mapping, without a word.
static void child_that_leaves(void) {
	map_in_child(CHILD_PORT, newest_id);
}

static void (*grandchild)(void);

// The child has not used the library itself.
static void child_with_a_child(void) {
	run_child(grandchild);
}

// The child has used it, too.
static void child_of_use_with_a_child(void) {
	newest_id = map_in_child(CHILD_PORT + 1, newest_id);
	run_child(grandchild);
	CHECK_INT(queried_state(newest_id), PLUM_STATE_SUCCESS);
	cleanup_in_child(newest_id);
}

static void run_grandchildren(void (*body)(void)) {
	grandchild = body;
	run_child(child_with_a_child);
	run_child(child_of_use_with_a_child);
}

// vfork(2) and posix_spawn(3) share memory with their parent until they are another program: nothing happens to it.
static void programs_may_be_started(void) {
	char *arguments[] = {"true", NULL};
	for (int i = 0; i < 20; ++i) {
		pid_t pid;
		CHECK(posix_spawnp(&pid, arguments[0], NULL, NULL, arguments, environ) == 0);
		int status;
		CHECK(waitpid(pid, &status, 0) == pid);
		CHECK_INT(status, 0);
	}
}

// Children of a program whose worker is busy: whatever lock that worker holds at the fork, no child waits for it.
static void fork_while_busy(void) {
	for (int round = 0; round < 20; ++round) {
		int ids[5];
		for (int i = 0; i < 5; ++i)
			newest_id = ids[i] = create_recorded(PLUM_IP_PROTOCOL_UDP, 6100 + i);
		run_child(child_of_initialised);
		for (int i = 0; i < 5; ++i)
			CHECK_INT(plum_destroy_mapping(ids[i]), PLUM_ERR_SUCCESS);
	}
}

int main(void) {
	check_time_limit(220);
	events_init();
	// In ABI 0.5, too: what is left on the gateway would be a child's doing.
	CHECK(setenv("PLUM_ON_CLEANUP", "remove", 1) == 0);
	newest_id = -1;
	run_child(child_of_uninitialised); // the library has not been used

	plum_config_t config = test_config();
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	run_child(child_of_initialised); // no mapping yet
	int id = newest_id = create_recorded(PLUM_IP_PROTOCOL_TCP, 6000);
	run_child(child_of_initialised); // it is pending
	wait_for_event(id, PLUM_STATE_SUCCESS);
	run_child(child_of_initialised); // and made
	run_child(child_that_begins_anew);
	run_child(child_that_cleans_up);
	run_grandchildren(child_of_initialised);
	run_grandchildren(child_that_begins_anew);
	programs_may_be_started();

	// Nobody has removed anything of the parent's, and it goes on working.
	CHECK_INT(queried_state(id), PLUM_STATE_SUCCESS);
	CHECK_INT(gateway_mappings(), 1);
	int other = newest_id = create_recorded(PLUM_IP_PROTOCOL_UDP, 6001);
	wait_for_event(other, PLUM_STATE_SUCCESS);
	fork_while_busy();
	run_child(child_that_leaves);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	CHECK_INT(gateway_mappings(), 1); // what that child has left
	check_all_destroyed_once();
	run_child(child_of_uninitialised);
	grandchild = child_of_uninitialised;
	run_child(child_with_a_child);
#ifdef REFUSE_WIPED_PAGES
	CHECK(wiped_pages_refused > 0);
#endif
	return 0;
}
