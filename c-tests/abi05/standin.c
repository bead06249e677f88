// A libplum.so.0.5.3 to link old programs to: it has the functions of the C library and does nothing. A program that runs with
// it says so and ends, so that nobody takes it for the library under test.

#include "plum-0.5.h"

#include <stdio.h>
#include <stdlib.h>

enum { STATUS = 70 };

static int end(void) {
	puts("this is the stand-in");
	exit(STATUS);
}

int plum_init(const config_t *config) {
	(void)config;
	return end();
}

int plum_cleanup(void) {
	return end();
}

int plum_create_mapping(const mapping_t *mapping, mapping_callback_t callback) {
	(void)mapping;
	(void)callback;
	return end();
}

int plum_query_mapping(int id, enum_t *state, mapping_t *mapping) {
	(void)id;
	(void)state;
	(void)mapping;
	return end();
}

int plum_destroy_mapping(int id) {
	(void)id;
	return end();
}

int plum_get_local_address(char *buffer, size_t size) {
	(void)buffer;
	(void)size;
	return end();
}

int plum_get_dummytls_certificate(enum_t type, char *buffer, size_t size) {
	(void)type;
	(void)buffer;
	(void)size;
	return end();
}

int plum_get_dummytls_host(const char *address, char *buffer, size_t size) {
	(void)address;
	(void)buffer;
	(void)size;
	return end();
}
