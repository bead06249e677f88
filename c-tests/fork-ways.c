// Ways to a child: daemon(3), from inside callbacks, clone(2), which the C library knows nothing of, and where parent and child
// have the same process id.

#define _GNU_SOURCE // daemon, unshare, syscall
#include "fork.h"

#include <dirent.h>
#include <errno.h>
#include <sys/syscall.h>
#ifdef REFUSE_WIPED_PAGES
#include "refuse-wiped-pages.h"
#endif

enum { CHILD_PORT = 6500 };

static void init(void) {
	plum_config_t config = test_config();
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
}

static int newest_id;

static void map_and_clean_up(void) {
	cleanup_in_child(map_in_child(CHILD_PORT, newest_id));
}

// The parent's only mapping is still there, and one more can be made.
static void check_parent(int id) {
	CHECK_INT(queried_state(id), PLUM_STATE_SUCCESS);
	CHECK_INT(gateway_mappings(), 1);
	int other = create_recorded(PLUM_IP_PROTOCOL_UDP, 6001);
	wait_for_event(other, PLUM_STATE_SUCCESS);
	CHECK_INT(plum_destroy_mapping(other), PLUM_ERR_SUCCESS);
	wait_for_the_end_of(other);
	CHECK_INT(gateway_mappings(), 1);
	newest_id = other;
}

// --- daemon(3) ---

// The usual order of a daemon. The process that is left after it is no child of this one.
static void a_daemon_maps_what_it_was_initialised_for(void) {
	report_t report = report_open();
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		init();
		int id = create_recorded(PLUM_IP_PROTOCOL_TCP, 6000);
		wait_for_event(id, PLUM_STATE_SUCCESS);
		newest_id = id;
		CHECK(daemon(1, 1) == 0); // the parent ends in it, and cleans up nothing
		check_time_limit(100);
		map_and_clean_up();
		report_good(&report);
		kill(getpid(), SIGKILL);
	}
	report_expect(&report, pid);
	CHECK(waitpid(pid, NULL, 0) == pid);
	CHECK_INT(gateway_mappings(), 1); // what ended without cleanup has left
	gateway_command("restart-without-memory");
}

// --- from inside a mapping callback ---

static struct {
	report_t report;
	int forks;
	pid_t pid;
	pthread_t thread;
} inside;

// On a new worker of the child's, after the callback that has forked has returned, and its thread ended.
static void report_from_the_child(int id, plum_state_t state, const plum_mapping_t *mapping) {
	(void)mapping;
	CHECK(!pthread_equal(pthread_self(), inside.thread));
	CHECK(id > newest_id);
	if (state == PLUM_STATE_SUCCESS) {
		CHECK_INT(plum_destroy_mapping(id), PLUM_ERR_SUCCESS);
		CHECK_INT(plum_cleanup(), PLUM_ERR_FAILED); // this is a callback
		report_good(&inside.report);
	}
}

// Inside the callback the child uses the library as on any thread: it also cleans up.
static void fork_inside(int id, plum_state_t state, const plum_mapping_t *mapping) {
	record_event(id, state, mapping);
	if (state != PLUM_STATE_SUCCESS || inside.forks == 0)
		return;
	--inside.forks;
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (pid > 0) {
		pthread_mutex_lock(&events.mutex);
		inside.pid = pid;
		pthread_cond_broadcast(&events.changed);
		pthread_mutex_unlock(&events.mutex);
		return;
	}
	inside.thread = pthread_self();
	CHECK_INT(plum_query_mapping(id, NULL, NULL), PLUM_ERR_NOT_AVAIL);
	cleanup_in_child(map_in_child(CHILD_PORT, id));
	init();
	// And it returns: what goes on is the library's new worker.
	plum_mapping_t wanted = wanted_mapping(PLUM_IP_PROTOCOL_TCP, CHILD_PORT);
	CHECK(plum_create_mapping(&wanted, report_from_the_child) > id);
}

static pid_t wait_for_the_child(void) {
	long long deadline_ms = check_now_ms() + CHECK_PATIENCE_MS;
	pthread_mutex_lock(&events.mutex);
	while (inside.pid == 0)
		CHECK(check_wait_until(&events.changed, &events.mutex, deadline_ms));
	pthread_mutex_unlock(&events.mutex);
	return inside.pid;
}

static void a_callback_may_fork(void) {
	init();
	inside.report = report_open();
	inside.forks = 1;
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_TCP, 6000);
	int id = newest_id = plum_create_mapping(&mapping, fork_inside);
	wait_for_event(id, PLUM_STATE_SUCCESS);
	pid_t pid = wait_for_the_child();
	report_expect(&inside.report, pid);
	CHECK(waitpid(pid, NULL, WNOHANG) == 0); // it lives, by its worker alone
	long long deadline_ms = check_now_ms() + CHECK_PATIENCE_MS;
	while (gateway_mappings() > 1)
		CHECK(check_now_ms() < deadline_ms);
	kill(pid, SIGKILL);
	CHECK(waitpid(pid, NULL, 0) == pid);
	check_parent(id);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	CHECK_INT(gateway_mappings(), 0);
}

// --- from inside a log callback ---

static const char *log_word;

static void fork_in_the_log(plum_log_level_t level, const char *message) {
	(void)level;
	if (log_word == NULL || strstr(message, log_word) == NULL)
		return;
	log_word = NULL;
	inside.pid = fork();
	CHECK(inside.pid >= 0);
	if (inside.pid == 0) {
		// The parent's log is locked; what this thread logs in the callback goes nowhere.
		map_and_clean_up();
		report_good(&inside.report);
		kill(getpid(), SIGKILL);
	}
}

// On a thread of the program's.
static void a_log_callback_may_fork(void) {
	plum_config_t config = test_config();
	config.log_level = PLUM_LOG_LEVEL_VERBOSE;
	config.log_callback = fork_in_the_log;
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	inside.report = report_open();
	log_word = "created";
	int id = create_recorded(PLUM_IP_PROTOCOL_TCP, 6000);
	report_expect(&inside.report, inside.pid);
	CHECK(waitpid(inside.pid, NULL, 0) == inside.pid);
	wait_for_event(id, PLUM_STATE_SUCCESS);
	check_parent(id);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

// --- clone(2) ---

// Whether a thread of this process runs, or does not sleep for the moment.
static int is_thread_awake(const char *id) {
	char path[64], text[256];
	snprintf(path, sizeof(path), "/proc/self/task/%.16s/stat", id);
	FILE *file = fopen(path, "r");
	if (file == NULL)
		return 0; // it has ended
	size_t length = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[length] = '\0';
	const char *name_end = strrchr(text, ')');
	return name_end == NULL || name_end[1] != ' ' || name_end[2] != 'S';
}

// The C library does not release its locks for a child of clone(2): the other threads must not be inside malloc. They sleep in poll
// when they have nothing to do.
static void wait_until_other_threads_sleep(void) {
	// In a namespace of its own, gettid gives another number than /proc.
	char link[64] = "";
	CHECK(readlink("/proc/thread-self", link, sizeof(link) - 1) > 0);
	const char *own = strrchr(link, '/') + 1;
	long long deadline_ms = check_now_ms() + CHECK_PATIENCE_MS;
	for (int quiet = 0; quiet < 3;) {
		DIR *tasks = opendir("/proc/self/task");
		CHECK(tasks != NULL);
		int awake = 0;
		for (struct dirent *task = readdir(tasks); task != NULL; task = readdir(tasks))
			awake += task->d_name[0] != '.' && strcmp(task->d_name, own) != 0 && is_thread_awake(task->d_name);
		closedir(tasks);
		quiet = awake ? 0 : quiet + 1;
		CHECK(check_now_ms() < deadline_ms);
	}
}

static pid_t clone_as_fork(unsigned long flags) {
	wait_until_other_threads_sleep();
	flags |= SIGCHLD;
#ifdef __s390__ // the order of the first two arguments: clone(2)
	return (pid_t)syscall(SYS_clone, NULL, flags, NULL, NULL, 0);
#else
	return (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, 0);
#endif
}

static pid_t clone_plainly(void) {
	return clone_as_fork(0);
}

static void clone_a_child(void) {
	run_child_of(clone_plainly, map_and_clean_up);
}

static void a_child_of_clone_stands_as_that_of_fork(void) {
	init();
	int id = newest_id = create_recorded(PLUM_IP_PROTOCOL_TCP, 6000);
	wait_for_event(id, PLUM_STATE_SUCCESS);
	for (int i = 0; i < 5; ++i) {
		clone_a_child();
		run_child_of(clone_plainly, clone_a_child);
		check_parent(id);
	}
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

// --- the same process id ---

static pid_t clone_into_a_namespace(void) {
	return clone_as_fork(CLONE_NEWPID);
}

static pid_t fork_into_a_namespace(void) {
	CHECK(unshare(CLONE_NEWPID) == 0);
	return fork();
}

static pid_t (*make_the_second)(void);

static void first_of_a_second_namespace(void) {
	CHECK_INT(getpid(), 1);
	map_and_clean_up();
}

static void first_of_a_namespace(void) {
	CHECK_INT(getpid(), 1);
	init();
	int id = newest_id = create_recorded(PLUM_IP_PROTOCOL_TCP, 6000);
	wait_for_event(id, PLUM_STATE_SUCCESS);
	run_child_of(make_the_second, first_of_a_second_namespace);
	CHECK_INT(queried_state(id), PLUM_STATE_SUCCESS);
	cleanup_in_child(id);
}

// As in a container that starts one.
static void parent_and_child_may_both_be_process_1(void) {
	pid_t pid = clone_into_a_namespace();
	if (pid < 0) {
		CHECK(errno == EPERM || errno == EINVAL); // an emulator does not know it
		fprintf(stderr, "not tried, for want of rights: parent and child that are both process 1\n");
		return;
	}
	if (pid == 0)
		_exit(0);
	CHECK(waitpid(pid, NULL, 0) == pid);
	make_the_second = fork_into_a_namespace;
	run_child_of(clone_into_a_namespace, first_of_a_namespace);
#ifndef REFUSE_WIPED_PAGES // without them nothing tells
	make_the_second = clone_into_a_namespace;
	run_child_of(clone_into_a_namespace, first_of_a_namespace);
#endif
}

static const row_t rows[] = {
    ROW(parent_and_child_may_both_be_process_1),
    ROW(a_daemon_maps_what_it_was_initialised_for),
    ROW(a_callback_may_fork),
    ROW(a_log_callback_may_fork),
    ROW(a_child_of_clone_stands_as_that_of_fork),
};

int main(void) {
	check_time_limit(230);
	events_init();
	CHECK(setenv("PLUM_ON_CLEANUP", "remove", 1) == 0);
	newest_id = -1;
#ifdef REFUSE_WIPED_PAGES
	plum_query_mapping(0, NULL, NULL);
	CHECK(wiped_pages_refused > 0);
#endif
	CHECK_ROWS(rows);
	CHECK_INT(gateway_mappings(), 0);
	check_all_destroyed_once();
	return 0;
}
