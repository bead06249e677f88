/* The calls of libplum for Node.js. Node-API alone, so that one build serves every version of Node.js since 12.
 *
 * Callbacks of mappings come from libplum's own thread. Each leaves a copy of what it has to say with a thread-safe function
 * and returns at once, so that libplum's thread never waits for the event loop; plum_cleanup, which waits for that
 * thread, runs on a thread of Node's pool. */

#include <node_api.h>
#include <plum/plum.h>
#include <stdlib.h>
#include <string.h>

/* What one callback has to say. */
typedef struct {
	int id;
	plum_state_t state;
	plum_mapping_protocol_t protocol;
	uint16_t port;
	char host[PLUM_MAX_HOST_LEN];
} news_t;

/* A plum_cleanup on its way. */
typedef struct {
	napi_async_work work;
	napi_deferred deferred;
	int result;
} ending_t;

static const char *const protocol_names[] = {"unknown", "PCP", "NAT-PMP", "UPnP-IGD", "direct"};

static napi_value number(napi_env env, int value) {
	napi_value result;
	napi_create_int32(env, value, &result);
	return result;
}

static int int_argument(napi_env env, napi_value value) {
	int32_t result = 0;
	napi_get_value_int32(env, value, &result);
	return result;
}

/* On libplum's thread. */
static void on_mapping(int id, plum_state_t state, const plum_mapping_t *mapping) {
	napi_threadsafe_function listener = mapping->user_ptr;
	news_t *news = malloc(sizeof(*news));
	if (news) {
		news->id = id;
		news->state = state;
		news->protocol = mapping->mapping_protocol;
		news->port = mapping->external_port;
		memcpy(news->host, mapping->external_host, sizeof(news->host));
		if (napi_call_threadsafe_function(listener, news, napi_tsfn_nonblocking) != napi_ok)
			free(news);
	}
	/* The last call of this mapping: what was left before is still delivered. */
	if (state == PLUM_STATE_DESTROYED)
		napi_release_threadsafe_function(listener, napi_tsfn_release);
}

/* On the event loop: listener(state, host, port, protocol). */
static void deliver(napi_env env, napi_value listener, void *context, void *data) {
	(void)context;
	news_t *news = data;
	if (env) {
		napi_value arguments[4], receiver;
		arguments[0] = number(env, news->state);
		napi_create_string_utf8(env, news->host, NAPI_AUTO_LENGTH, &arguments[1]);
		arguments[2] = number(env, news->port);
		napi_create_string_utf8(env, protocol_names[news->protocol], NAPI_AUTO_LENGTH, &arguments[3]);
		napi_get_undefined(env, &receiver);
		napi_call_function(env, receiver, listener, 4, arguments, NULL);
	}
	free(news);
}

/* init(logLevel, protocols, discoverTimeout, mappingTimeout, recheckPeriod): a result code. */
static napi_value init(napi_env env, napi_callback_info info) {
	napi_value arguments[5];
	size_t count = 5;
	napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
	plum_config_t config;
	memset(&config, 0, sizeof(config));
	config.log_level = (plum_log_level_t)int_argument(env, arguments[0]);
	config.protocol = (plum_protocol_t)int_argument(env, arguments[1]);
	config.discover_timeout = int_argument(env, arguments[2]);
	config.mapping_timeout = int_argument(env, arguments[3]);
	config.recheck_period = int_argument(env, arguments[4]);
	return number(env, plum_init(&config));
}

/* create(transport, internalPort, externalPort, externalHost, listener): an id, or a result code. */
static napi_value create(napi_env env, napi_callback_info info) {
	napi_value arguments[5], name;
	size_t count = 5;
	napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
	napi_create_string_utf8(env, "libplum", NAPI_AUTO_LENGTH, &name);
	napi_threadsafe_function listener;
	if (napi_create_threadsafe_function(env, arguments[4], NULL, name, 0, 1, NULL, NULL, NULL, deliver, &listener) != napi_ok)
		return number(env, PLUM_ERR_FAILED);
	plum_mapping_t mapping;
	memset(&mapping, 0, sizeof(mapping));
	mapping.protocol = (plum_ip_protocol_t)int_argument(env, arguments[0]);
	mapping.internal_port = (uint16_t)int_argument(env, arguments[1]);
	mapping.external_port = (uint16_t)int_argument(env, arguments[2]);
	size_t length; /* cut to what fits, NUL included */
	napi_get_value_string_utf8(env, arguments[3], mapping.external_host, sizeof(mapping.external_host), &length);
	mapping.user_ptr = listener;
	int id = plum_create_mapping(&mapping, on_mapping);
	if (id < 0) /* no callback will come */
		napi_release_threadsafe_function(listener, napi_tsfn_release);
	return number(env, id);
}

/* destroy(id): a result code. It waits for a running callback of the mapping, which here waits for nothing. */
static napi_value destroy(napi_env env, napi_callback_info info) {
	napi_value argument;
	size_t count = 1;
	napi_get_cb_info(env, info, &count, &argument, NULL, NULL);
	return number(env, plum_destroy_mapping(int_argument(env, argument)));
}

static void end(napi_env env, void *data) {
	(void)env;
	ending_t *ending = data;
	ending->result = plum_cleanup();
}

static void ended(napi_env env, napi_status status, void *data) {
	(void)status;
	ending_t *ending = data;
	napi_resolve_deferred(env, ending->deferred, number(env, ending->result));
	napi_delete_async_work(env, ending->work);
	free(ending);
}

/* cleanup(): a promise of a result code. */
static napi_value cleanup(napi_env env, napi_callback_info info) {
	(void)info;
	napi_value promise, name;
	ending_t *ending = calloc(1, sizeof(*ending));
	if (!ending) {
		napi_throw_error(env, NULL, "out of memory");
		return NULL;
	}
	napi_create_promise(env, &ending->deferred, &promise);
	napi_create_string_utf8(env, "plum_cleanup", NAPI_AUTO_LENGTH, &name);
	napi_create_async_work(env, NULL, name, end, ended, ending, &ending->work);
	napi_queue_async_work(env, ending->work);
	return promise;
}

/* localAddress(): a string, or null without a route to the internet. */
static napi_value local_address(napi_env env, napi_callback_info info) {
	(void)info;
	napi_value result;
	char buffer[PLUM_MAX_ADDRESS_LEN];
	if (plum_get_local_address(buffer, sizeof(buffer)) > 0)
		napi_create_string_utf8(env, buffer, NAPI_AUTO_LENGTH, &result);
	else
		napi_get_null(env, &result);
	return result;
}

/* Node.js ends, and with it the functions that callbacks call. */
static void at_exit(void *data) {
	(void)data;
	plum_cleanup();
}

NAPI_MODULE_INIT() {
	const struct {
		const char *name;
		napi_callback call;
	} functions[] = {{"init", init}, {"create", create}, {"destroy", destroy}, {"cleanup", cleanup}, {"localAddress", local_address}};
	for (size_t n = 0; n < sizeof(functions) / sizeof(*functions); n++) {
		napi_value function;
		napi_create_function(env, functions[n].name, NAPI_AUTO_LENGTH, functions[n].call, NULL, &function);
		napi_set_named_property(env, exports, functions[n].name, function);
	}
	napi_add_env_cleanup_hook(env, at_exit, NULL);
	return exports;
}
