// What goes to the log, where to, and what a log callback may do.

#define _XOPEN_SOURCE 700 // posix_openpt
#include "events.h"

#include <ctype.h>
#ifndef _WIN32
#include <fcntl.h>
#include <poll.h>
#endif

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	int messages[PLUM_LOG_LEVEL_NONE + 1];
	int running;
	int total;
} logged = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void reset_logged(void) {
	pthread_mutex_lock(&logged.mutex);
	memset(logged.messages, 0, sizeof(logged.messages));
	logged.total = 0;
	pthread_mutex_unlock(&logged.mutex);
}

static int total_logged(void) {
	pthread_mutex_lock(&logged.mutex);
	int total = logged.total;
	pthread_mutex_unlock(&logged.mutex);
	return total;
}

static void note_message(plum_log_level_t level, const char *message) {
	CHECK(level >= PLUM_LOG_LEVEL_VERBOSE && level <= PLUM_LOG_LEVEL_FATAL);
	CHECK(message != NULL);
	CHECK(message[0] != '\0');
	for (const char *c = message; *c != '\0'; ++c)
		CHECK(!iscntrl((unsigned char)*c)); // no newline, nothing a terminal would obey

	pthread_mutex_lock(&logged.mutex);
	CHECK_INT(++logged.running, 1); // one call at a time
	pthread_mutex_unlock(&logged.mutex);
	pthread_mutex_lock(&logged.mutex);
	++logged.messages[level];
	++logged.total;
	--logged.running;
	pthread_mutex_unlock(&logged.mutex);
}

static void map_and_unmap(int port) {
	int id = create_recorded(PLUM_IP_PROTOCOL_TCP, port);
	wait_for_event(id, PLUM_STATE_SUCCESS);
	CHECK_INT(plum_destroy_mapping(id), PLUM_ERR_SUCCESS);
	wait_for_the_end_of(id);
}

static plum_config_t logging_config(plum_log_level_t level, plum_log_callback_t callback) {
	plum_config_t config = test_config();
	config.log_level = level;
	config.log_callback = callback;
	return config;
}

static void only_messages_of_the_level_and_above_come(void) {
	plum_config_t config = logging_config(PLUM_LOG_LEVEL_VERBOSE, note_message);
	reset_logged();
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	map_and_unmap(5000);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	CHECK(logged.messages[PLUM_LOG_LEVEL_VERBOSE] + logged.messages[PLUM_LOG_LEVEL_DEBUG] > 0);
	CHECK(logged.messages[PLUM_LOG_LEVEL_INFO] > 0);
	int total = logged.total;

	// After cleanup there is nobody to log, whatever is called.
	CHECK_INT(plum_cleanup(), PLUM_ERR_FAILED);
	CHECK_INT(plum_destroy_mapping(0), PLUM_ERR_FAILED);
	plum_set_log_level(PLUM_LOG_LEVEL_VERBOSE);
	CHECK_INT(plum_destroy_mapping(0), PLUM_ERR_FAILED);
	CHECK_INT(total_logged(), total);

	reset_logged();
	config.log_level = PLUM_LOG_LEVEL_INFO;
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	map_and_unmap(5001);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	CHECK_INT(logged.messages[PLUM_LOG_LEVEL_VERBOSE] + logged.messages[PLUM_LOG_LEVEL_DEBUG], 0);
	CHECK(logged.messages[PLUM_LOG_LEVEL_INFO] > 0);

	reset_logged();
	config.log_level = PLUM_LOG_LEVEL_NONE;
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	map_and_unmap(5002);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	CHECK_INT(logged.total, 0);
}

#if PLUM_TEST_ABI >= 602

static void the_level_can_be_changed_at_any_time(void) {
	plum_config_t config = logging_config(PLUM_LOG_LEVEL_NONE, note_message);
	reset_logged();
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	map_and_unmap(5010);
	CHECK_INT(total_logged(), 0);

	plum_set_log_level(PLUM_LOG_LEVEL_VERBOSE);
	map_and_unmap(5011);
	CHECK(total_logged() > 0);

	// Out of range: ignored, not taken for silence.
	plum_set_log_level((plum_log_level_t)(PLUM_LOG_LEVEL_NONE + 1));
	int total = total_logged();
	map_and_unmap(5012);
	CHECK(total_logged() > total);

	plum_set_log_level(PLUM_LOG_LEVEL_NONE);
	total = total_logged();
	map_and_unmap(5013);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	// One message may have been under way as the level changed.
	CHECK(total_logged() <= total + 1);
}

static void a_query_never_logs(void) {
	plum_config_t config = logging_config(PLUM_LOG_LEVEL_NONE, note_message);
	reset_logged();
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	int id = create_recorded(PLUM_IP_PROTOCOL_TCP, 5020);
	wait_for_event(id, PLUM_STATE_SUCCESS);
	plum_set_log_level(PLUM_LOG_LEVEL_VERBOSE);
	int total = total_logged();
	for (int i = 0; i < 1000; ++i) {
		plum_query_mapping(id, NULL, NULL);
		plum_query_mapping(-1, NULL, NULL);
		plum_query_mapping(id + 1, NULL, NULL);
	}
	// The worker may say something meanwhile, but not three thousand times.
	CHECK(total_logged() < total + 1000);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

#endif

// --- a log callback that calls the library ---

static int calls_from_log;

static void call_the_library(plum_log_level_t level, const char *message) {
	static __thread int depth;
	plum_config_t config = logging_config(PLUM_LOG_LEVEL_VERBOSE, call_the_library);
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_TCP, 5099);
	char buffer[PLUM_MAX_ADDRESS_LEN];
	note_message(level, message);
	CHECK_INT(++depth, 1); // what these calls would log is dropped
	CHECK_INT(plum_init(&config), PLUM_ERR_FAILED);
	CHECK_INT(plum_cleanup(), PLUM_ERR_FAILED);
	plum_set_log_level(PLUM_LOG_LEVEL_VERBOSE);
	plum_get_local_address(buffer, sizeof(buffer));
	plum_query_mapping(0, NULL, NULL);
	CHECK_INT(plum_create_mapping(NULL, NULL) < 0, 1);
	if (calls_from_log < 3) {
		int id = plum_create_mapping(&mapping, record_event);
		if (id >= 0) {
			++calls_from_log;
			int result = plum_destroy_mapping(id);
			CHECK(result == PLUM_ERR_SUCCESS || result == PLUM_ERR_NOT_AVAIL);
		}
	}
	--depth;
}

static void a_log_callback_may_call_the_library(void) {
	plum_config_t config = logging_config(PLUM_LOG_LEVEL_VERBOSE, call_the_library);
	reset_logged();
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	map_and_unmap(5030);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	CHECK(calls_from_log > 0);
	CHECK(total_logged() > 0);
}

// --- without a callback: standard output ---

// HH:MM:SS LEVEL   text
static void check_line(const char *line) {
	static const char *const levels[] = {"VERBOSE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"};
	CHECK(strlen(line) > 10);
	for (int i = 0; i < 8; ++i)
		CHECK(i % 3 == 2 ? line[i] == ':' : isdigit((unsigned char)line[i]));
	CHECK_INT(line[8], ' ');
	const char *level = line + 9;
	size_t length = strcspn(level, " ");
	int known = 0;
	for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); ++i)
		known |= strlen(levels[i]) == length && strncmp(level, levels[i], length) == 0;
	if (!known)
		check_failed(__FILE__, __LINE__, "no level in \"%s\"", line);
	CHECK(level[length + strspn(level + length, " ")] != '\0');
}

static void without_callback_lines_go_to_standard_output(void) {
	FILE *output = tmpfile();
	CHECK(output != NULL);
	fflush(stdout);
	int saved = dup(STDOUT_FILENO);
	CHECK(saved >= 0);
	CHECK(dup2(fileno(output), STDOUT_FILENO) >= 0);
	plum_config_t config = logging_config(PLUM_LOG_LEVEL_VERBOSE, NULL);
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	map_and_unmap(5040);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	fflush(stdout);
	CHECK(dup2(saved, STDOUT_FILENO) >= 0);
	close(saved);

	char line[4096];
	int lines = 0;
	rewind(output);
	while (fgets(line, sizeof(line), output) != NULL) {
		size_t length = strlen(line);
		CHECK_INT(line[length - 1], '\n');
		line[length - 1] = '\0';
		CHECK(strchr(line, '\033') == NULL); // a file is no terminal
		check_line(line);
		++lines;
	}
	CHECK(lines > 0);
	fclose(output);
}

#ifndef _WIN32 // it has no pseudo-terminals of this kind

static void a_terminal_gets_colours(void) {
	int master = posix_openpt(O_RDWR | O_NOCTTY);
	if (master < 0) {
		fprintf(stderr, "no terminals here: colours not tried\n");
		return;
	}
	CHECK(grantpt(master) == 0);
	CHECK(unlockpt(master) == 0);
	int terminal = open(ptsname(master), O_RDWR | O_NOCTTY);
	CHECK(terminal >= 0);
	fflush(stdout);
	int saved = dup(STDOUT_FILENO);
	CHECK(saved >= 0);
	CHECK(dup2(terminal, STDOUT_FILENO) >= 0);
	// INFO: few enough lines for the terminal's buffer, which nobody empties meanwhile.
	plum_config_t config = logging_config(PLUM_LOG_LEVEL_INFO, NULL);
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	map_and_unmap(5050);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	fflush(stdout);
	CHECK(dup2(saved, STDOUT_FILENO) >= 0);
	close(saved);

	struct pollfd readable = {.fd = master, .events = POLLIN};
	CHECK(poll(&readable, 1, CHECK_PATIENCE_MS) == 1);
	char text[4096];
	ssize_t length = read(master, text, sizeof(text) - 1);
	CHECK(length > 0);
	text[length] = '\0';
	CHECK(strchr(text, '\033') != NULL);
	CHECK(strchr(text, '\n') != NULL);
	close(terminal);
	close(master);
}

#endif

static const row_t rows[] = {
    ROW(only_messages_of_the_level_and_above_come),
    ROW_SINCE_602(the_level_can_be_changed_at_any_time),
    ROW_SINCE_602(a_query_never_logs),
    ROW(a_log_callback_may_call_the_library),
    ROW(without_callback_lines_go_to_standard_output),
#ifndef _WIN32
    ROW(a_terminal_gets_colours),
#endif
};

int main(void) {
	check_time_limit(100);
	events_init();
	CHECK_ROWS(rows);
	check_all_destroyed_once();
	return 0;
}
