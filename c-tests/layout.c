// The ABI: names, values and layouts that programs compiled for libplum 0.6.2, 0.6.0 or 0.5 have in them.

#include "check.h"
#include <plum/plum.h>
#include <stddef.h>
#include <stdint.h>

// C99 has no _Static_assert: an array of negative size does the same.
#define STATIC_ASSERT(name, condition) typedef char static_assert_##name[(condition) ? 1 : -1]

#define VALUE(name, value) typedef char value_of_##name[(name) == (value) ? 1 : -1]
VALUE(PLUM_ERR_SUCCESS, 0);
VALUE(PLUM_ERR_INVALID, -1);
VALUE(PLUM_ERR_FAILED, -2);
VALUE(PLUM_ERR_NOT_AVAIL, -3);
VALUE(PLUM_LOG_LEVEL_VERBOSE, 0);
VALUE(PLUM_LOG_LEVEL_DEBUG, 1);
VALUE(PLUM_LOG_LEVEL_INFO, 2);
VALUE(PLUM_LOG_LEVEL_WARN, 3);
VALUE(PLUM_LOG_LEVEL_ERROR, 4);
VALUE(PLUM_LOG_LEVEL_FATAL, 5);
VALUE(PLUM_LOG_LEVEL_NONE, 6);
VALUE(PLUM_IP_PROTOCOL_TCP, 0);
VALUE(PLUM_IP_PROTOCOL_UDP, 1);
VALUE(PLUM_STATE_DESTROYED, 0);
VALUE(PLUM_STATE_PENDING, 1);
VALUE(PLUM_STATE_SUCCESS, 2);
VALUE(PLUM_STATE_FAILURE, 3);
VALUE(PLUM_STATE_DESTROYING, 4);
VALUE(PLUM_DUMMYTLS_PEM_CERT, 0);
VALUE(PLUM_DUMMYTLS_PEM_CHAIN, 1);
VALUE(PLUM_DUMMYTLS_PEM_FULLCHAIN, 2);
VALUE(PLUM_DUMMYTLS_PEM_PRIVKEY, 3);
VALUE(PLUM_MAX_HOST_LEN, 256);
VALUE(PLUM_MAX_ADDRESS_LEN, 64);
#if PLUM_TEST_ABI >= 602
VALUE(PLUM_PROTOCOL_ANY, 0);
VALUE(PLUM_PROTOCOL_PCP, 1);
VALUE(PLUM_PROTOCOL_UPNP, 2);
#endif
#if PLUM_TEST_ABI >= 600
VALUE(PLUM_MAPPING_PROTOCOL_UNKNOWN, 0);
VALUE(PLUM_MAPPING_PROTOCOL_PCP, 1);
VALUE(PLUM_MAPPING_PROTOCOL_NATPMP, 2);
VALUE(PLUM_MAPPING_PROTOCOL_UPNP, 3);
VALUE(PLUM_MAPPING_PROTOCOL_DIRECT, 4);
#endif

#if PLUM_MAX_HOST_LEN != 256 || PLUM_MAX_ADDRESS_LEN != 64 || PLUM_ERR_NOT_AVAIL != -3
#error "programs use these in #if: they must be macros"
#endif

#define OFFSET(type, field, offset) STATIC_ASSERT(type##_##field, offsetof(type, field) == (offset))
#define ENUM_SIZE(type) STATIC_ASSERT(size_of_##type, sizeof(type) == sizeof(int))
ENUM_SIZE(plum_log_level_t);
ENUM_SIZE(plum_ip_protocol_t);
ENUM_SIZE(plum_state_t);
ENUM_SIZE(plum_dummytls_cert_type_t);
#if PLUM_TEST_ABI >= 602
ENUM_SIZE(plum_protocol_t);
#endif
#if PLUM_TEST_ABI >= 600
ENUM_SIZE(plum_mapping_protocol_t);
#endif

enum { POINTER = sizeof(void *) }; // 8 in LP64, 4 in ILP32: what differs
STATIC_ASSERT(size_of_a_pointer, POINTER == 8 || POINTER == 4);

OFFSET(plum_config_t, log_level, 0);
OFFSET(plum_config_t, log_callback, POINTER);
OFFSET(plum_config_t, dummytls_domain, 2 * POINTER);
OFFSET(plum_mapping_t, protocol, 0);
#if PLUM_TEST_ABI < 600
STATIC_ASSERT(size_of_plum_config_t, sizeof(plum_config_t) == 3 * POINTER);
OFFSET(plum_mapping_t, internal_port, 4);
OFFSET(plum_mapping_t, external_port, 6);
OFFSET(plum_mapping_t, external_host, 8);
OFFSET(plum_mapping_t, user_ptr, 264);
STATIC_ASSERT(size_of_plum_mapping_t, sizeof(plum_mapping_t) == 264 + POINTER);
#else
OFFSET(plum_config_t, discover_timeout, 3 * POINTER);
OFFSET(plum_config_t, mapping_timeout, 3 * POINTER + 4);
OFFSET(plum_config_t, recheck_period, 3 * POINTER + 8);
#if PLUM_TEST_ABI >= 602
OFFSET(plum_config_t, protocol, 3 * POINTER + 12);
STATIC_ASSERT(size_of_plum_config_t, sizeof(plum_config_t) == 3 * POINTER + 16);
#else // 64 bits: padded to the same size
STATIC_ASSERT(size_of_plum_config_t, sizeof(plum_config_t) == 3 * POINTER + (POINTER == 8 ? 16 : 12));
#endif
OFFSET(plum_mapping_t, mapping_protocol, 4);
OFFSET(plum_mapping_t, internal_port, 8);
OFFSET(plum_mapping_t, external_port, 10);
OFFSET(plum_mapping_t, external_host, 12);
OFFSET(plum_mapping_t, user_ptr, POINTER == 8 ? 272 : 268);
STATIC_ASSERT(size_of_plum_mapping_t, sizeof(plum_mapping_t) == (POINTER == 8 ? 280 : 272));
#endif

// Assigning each function to a pointer of its documented type is the check: a wrong one does not compile under -Werror.
static struct {
	int (*init)(const plum_config_t *);
	int (*cleanup)(void);
	int (*create_mapping)(const plum_mapping_t *, plum_mapping_callback_t);
	int (*query_mapping)(int, plum_state_t *, plum_mapping_t *);
	int (*destroy_mapping)(int);
	int (*get_local_address)(char *, size_t);
	int (*get_dummytls_certificate)(plum_dummytls_cert_type_t, char *, size_t);
	int (*get_dummytls_host)(const char *, char *, size_t);
#if PLUM_TEST_ABI >= 602
	void (*set_log_level)(plum_log_level_t);
#endif
} functions = {
    plum_init,
    plum_cleanup,
    plum_create_mapping,
    plum_query_mapping,
    plum_destroy_mapping,
    plum_get_local_address,
    plum_get_dummytls_certificate,
    plum_get_dummytls_host,
#if PLUM_TEST_ABI >= 602
    plum_set_log_level,
#endif
};

static void log_nothing(plum_log_level_t level, const char *message) {
	(void)level;
	(void)message;
}

static void ignore_event(int id, plum_state_t state, const plum_mapping_t *mapping) {
	(void)id;
	(void)state;
	(void)mapping;
}

int main(void) {
	check_time_limit(60);

	// Through the pointers: what a program gets that looks the functions up.
	CHECK_INT(functions.init(NULL), PLUM_ERR_INVALID);
	CHECK_INT(functions.cleanup(), PLUM_ERR_FAILED);
	CHECK_INT(functions.destroy_mapping(0), PLUM_ERR_FAILED);

	plum_log_callback_t log_callback = log_nothing;
	plum_mapping_callback_t mapping_callback = ignore_event;
	plum_config_t config;
	memset(&config, 0, sizeof(config));
	config.log_callback = log_callback;
	CHECK_INT(functions.init(&config), PLUM_ERR_SUCCESS);

	// A struct on either side of which nothing may be written.
	struct {
		unsigned char before[16];
		plum_mapping_t mapping;
		unsigned char after[16];
	} guarded;
	memset(&guarded, 0, sizeof(guarded));
	guarded.mapping.protocol = PLUM_IP_PROTOCOL_UDP;
	guarded.mapping.internal_port = 1234;
	guarded.mapping.user_ptr = &guarded;
	int id = functions.create_mapping(&guarded.mapping, mapping_callback);
	CHECK(id >= 0);
	memset(&guarded, 0xa5, sizeof(guarded));
	CHECK_INT(functions.query_mapping(id, NULL, &guarded.mapping), PLUM_ERR_SUCCESS);
	CHECK_INT(guarded.mapping.protocol, PLUM_IP_PROTOCOL_UDP);
	CHECK_INT(guarded.mapping.internal_port, 1234);
	CHECK(guarded.mapping.user_ptr == &guarded);
	for (size_t i = 0; i < sizeof(guarded.before); ++i) {
		CHECK_INT(guarded.before[i], 0xa5);
		CHECK_INT(guarded.after[i], 0xa5);
	}
	CHECK_INT(functions.cleanup(), PLUM_ERR_SUCCESS);
	return 0;
}
