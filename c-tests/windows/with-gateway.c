// Runs a program with a simulated gateway of its own, which ends with it: c-tests/with-gateway for Windows, whose descriptors
// are handed down by the C runtime. A program that links another runtime than this one would not find them.
//
//   with-gateway GATEWAY [GATEWAY_OPTION...] -- PROGRAM [ARGUMENT...]

#include "../check.h"

enum { ARGUMENTS_MAX = 64, READY_SECONDS = 20, END_SECONDS = 20 };

static void set_variable(const char *name, const char *value) {
	if (_putenv_s(name, value) != 0)
		check_failed(__FILE__, __LINE__, "cannot set %s", name);
}

// The C runtime joins arguments with spaces, and leaves quoting to its callers. None of ours holds a quotation mark.
static const char *quoted(const char *argument) {
	size_t length = strlen(argument);
	char *copy = malloc(length + 3);
	CHECK(copy != NULL);
	CHECK(strchr(argument, '"') == NULL);
	snprintf(copy, length + 3, "\"%s\"", argument);
	return copy;
}

static intptr_t start(const char *program, int wait, const char *const *arguments) {
	intptr_t result = _spawnv(wait ? _P_WAIT : _P_NOWAIT, program, arguments);
	if (result == -1)
		check_failed(__FILE__, __LINE__, "cannot start %s", program);
	return result;
}

// A pipe that no process inherits.
static void open_pipe(int ends[2]) {
	CHECK(_pipe(ends, 4096, _O_BINARY | _O_NOINHERIT) == 0);
}

// Starts the gateway with these ends as its input and output.
static HANDLE start_gateway(const char *program, const char *const *arguments, int input, int output) {
	int own_input = _dup(0), own_output = _dup(1);
	CHECK(own_input >= 0 && own_output >= 0);
	CHECK(_dup2(input, 0) == 0 && _dup2(output, 1) == 0);
	intptr_t gateway = start(program, 0, arguments);
	CHECK(_dup2(own_input, 0) == 0 && _dup2(own_output, 1) == 0);
	_close(own_input);
	_close(own_output);
	_close(input);
	_close(output);
	return (HANDLE)gateway;
}

static volatile LONG is_ready;

static DWORD WINAPI limit_start(void *unused) {
	(void)unused;
	Sleep(READY_SECONDS * 1000);
	if (!is_ready)
		check_failed(__FILE__, __LINE__, "the gateway did not get ready");
	return 0;
}

static void wait_until_ready(int answers) {
	HANDLE limit = CreateThread(NULL, 0, limit_start, NULL, 0, NULL);
	CHECK(limit != NULL);
	CloseHandle(limit);
	// No more than the line: the rest is for the program.
	char line[200] = "";
	for (size_t length = 0; length == 0 || line[length - 1] != '\n'; ++length) {
		CHECK(length < sizeof(line) - 1);
		CHECK_INT(_read(answers, line + length, 1), 1);
	}
	CHECK(strncmp(line, "ready", 5) == 0);
	is_ready = 1;
}

int main(int argc, char *argv[]) {
	const char *gateway[ARGUMENTS_MAX], *program[ARGUMENTS_MAX];
	char address[32], forward[32], descriptor[16];
	CHECK(argc < ARGUMENTS_MAX - 10);

	// No two running processes have the same number, so no two tests at once have the same address.
	unsigned long number = GetCurrentProcessId() / 4;
	snprintf(address, sizeof(address), "127.%lu.%lu.%lu", 64 + number / 62500 % 64, number / 250 % 250, 1 + number % 250);
	snprintf(forward, sizeof(forward), "127.%lu.%lu.%lu", 128 + number / 62500 % 64, number / 250 % 250, 1 + number % 250);
	if (posix_is_wine()) // where no two tests can run at once
		snprintf(address, sizeof(address), "127.0.0.1");
	set_variable("PLUM_TEST_EXTERNAL", "203.0.113.7");
	set_variable("PLUM_TEST_FORWARD", forward);

	int count = 0, at = 1;
	for (; at < argc && strcmp(argv[at], "--") != 0; ++at)
		gateway[count++] = quoted(argv[at]);
	CHECK(count > 0 && at + 1 < argc);
	const char *const options[] = {"--address", address,   "--external-address", "203.0.113.7", "--forward-on",
	                               forward,     "--control"};
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); ++i)
		gateway[count++] = options[i];
	gateway[count] = NULL;
	const char *path = argv[++at];
	for (count = 0; at < argc; ++at)
		program[count++] = quoted(argv[at]);
	program[count] = NULL;

	int commands[2], answers[2];
	open_pipe(commands);
	open_pipe(answers);
	HANDLE process = start_gateway(argv[1], gateway, commands[0], answers[1]);
	wait_until_ready(answers[0]);

	// Copies are handed down.
	int command_end = _dup(commands[1]), answer_end = _dup(answers[0]);
	CHECK(command_end >= 0 && answer_end >= 0);
	snprintf(descriptor, sizeof(descriptor), "%d", command_end);
	set_variable("PLUM_TEST_COMMANDS", descriptor);
	snprintf(descriptor, sizeof(descriptor), "%d", answer_end);
	set_variable("PLUM_TEST_ANSWERS", descriptor);
	set_variable("PLUM_GATEWAY", address);
	intptr_t status = start(path, 1, program);

	// Its commands end, and so does it; unless it hangs, which must not hold up the tests.
	_close(command_end);
	_close(commands[1]);
	if (WaitForSingleObject(process, END_SECONDS * 1000) != WAIT_OBJECT_0)
		TerminateProcess(process, 1);
	return (int)status;
}
