// The simulated gateway that with-gateway has started for this test.

#ifndef PLUM_TEST_GATEWAY_H
#define PLUM_TEST_GATEWAY_H

#include "check.h"

static inline const char *gateway_environment(const char *name) {
	const char *value = getenv(name);
	if (value == NULL)
		check_failed(__FILE__, __LINE__, "%s is not set: run this by c-tests/with-gateway", name);
	return value;
}

// The external address that the gateway reports.
static inline const char *gateway_external_address(void) {
	return gateway_environment("PLUM_TEST_EXTERNAL");
}

// The loopback address where mapped external ports are reached.
static inline const char *gateway_forward_address(void) {
	return gateway_environment("PLUM_TEST_FORWARD");
}

// Has the gateway carry out a command (plum-gateway --control: `help` lists them); returns how many of the lines that it printed begin
// so. From one thread at a time.
static inline int gateway_lines(const char *command, const char *beginning) {
	static FILE *commands;
	static FILE *answers;
	if (commands == NULL) {
		commands = fdopen(atoi(gateway_environment("PLUM_TEST_COMMANDS")), "w");
		answers = fdopen(atoi(gateway_environment("PLUM_TEST_ANSWERS")), "r");
		CHECK(commands != NULL && answers != NULL);
	}
	CHECK(fprintf(commands, "%s\n", command) > 0);
	CHECK(fflush(commands) == 0);

	char line[1024];
	int lines = 0;
	for (;;) {
		CHECK(fgets(line, sizeof(line), answers) != NULL);
		if (strcmp(line, "ok\n") == 0)
			return lines;
		if (strncmp(line, "error", 5) == 0)
			check_failed(__FILE__, __LINE__, "gateway command \"%s\": %s", command, line);
		lines += strncmp(line, beginning, strlen(beginning)) == 0;
	}
}

// The same, of all lines.
static inline int gateway_command(const char *command) {
	return gateway_lines(command, "");
}

// How many mappings the gateway has in its table.
static inline int gateway_mappings(void) {
	return gateway_command("table");
}

// Whether the gateway answers anything.
static inline void gateway_answers(int answers) {
	gateway_command(answers ? "silence pcp never" : "silence pcp");
	gateway_command(answers ? "silence natpmp never" : "silence natpmp");
	gateway_command(answers ? "silence ssdp never" : "silence ssdp");
}

#endif
