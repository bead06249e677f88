// The ABI of libplum 0.5.3 as its programs have it in them: names, values, layouts. Written down for these tests; the header of
// this library for that ABI is generated (include/abi-0.5/plum.h), and layout.c holds it to the same.

#ifndef PLUM_TEST_PLUM_05_H
#define PLUM_TEST_PLUM_05_H

#include <stddef.h>
#include <stdint.h>

enum { ERR_SUCCESS = 0, ERR_INVALID = -1, ERR_FAILED = -2, ERR_NOT_AVAIL = -3 };
enum { LOG_WARN = 3 };
enum { TCP = 0, UDP = 1 };
enum { DESTROYED = 0, PENDING = 1, SUCCESS = 2, FAILURE = 3, DESTROYING = 4 };
enum { PEM_CERT = 0 };
enum { HOST_LEN = 256, ADDRESS_LEN = 64 };

// In C an enum without negative values is passed and stored as an unsigned int is.
typedef unsigned int enum_t;

typedef struct {
	enum_t log_level;
	void (*log_callback)(enum_t level, const char *message);
	const char *dummytls_domain;
} config_t;

typedef struct {
	enum_t protocol;
	uint16_t internal_port;
	uint16_t external_port;
	char external_host[HOST_LEN];
	void *user_ptr;
} mapping_t;

typedef void (*mapping_callback_t)(int id, enum_t state, const mapping_t *mapping);

int plum_init(const config_t *config);
int plum_cleanup(void);
int plum_create_mapping(const mapping_t *mapping, mapping_callback_t callback);
int plum_query_mapping(int id, enum_t *state, mapping_t *mapping);
int plum_destroy_mapping(int id);
int plum_get_local_address(char *buffer, size_t size);
int plum_get_dummytls_certificate(enum_t type, char *buffer, size_t size);
int plum_get_dummytls_host(const char *address, char *buffer, size_t size);

#endif
