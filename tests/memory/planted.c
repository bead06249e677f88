// Faults for the self-test of tests/memory/run: each has to be reported.

#include <limits.h>
#include <plum/plum.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
	const char *fault = argc > 1 ? argv[1] : "";
	volatile int number = INT_MAX;
	if (strcmp(fault, "none") == 0) {
		plum_config_t *config = calloc(1, sizeof(plum_config_t));
		config->log_level = PLUM_LOG_LEVEL_NONE;
		printf("%d\n", plum_init(config) == PLUM_ERR_SUCCESS && plum_cleanup() == PLUM_ERR_SUCCESS);
		free(config);
	} else if (strcmp(fault, "overflow") == 0) {
		// The library reads a configuration that has room for all but its last field.
		void *config = calloc(1, offsetof(plum_config_t, protocol));
		printf("%d\n", plum_init(config));
		free(config);
	} else if (strcmp(fault, "leak") == 0) {
		number = ((volatile char *)malloc(4711))[0];
	} else if (strcmp(fault, "undefined") == 0) {
		number += 1;
	} else {
		fprintf(stderr, "no such fault: %s\n", fault);
		return 2;
	}
	return number == 0;
}
