// A plugin host: the library is loaded, used and closed again and again, also by several threads: dlopen LIBRARY [left-running]

#include "events.h"

#ifdef _WIN32
#define RTLD_NOW 0
#define RTLD_LOCAL 0

static void *dlopen(const char *file, int flags) {
	(void)flags;
	return (void *)LoadLibraryA(file);
}

static void *dlsym(void *library, const char *name) {
	FARPROC function = GetProcAddress((HMODULE)library, name);
	void *found;
	memcpy(&found, &function, sizeof(found));
	return found;
}

static int dlclose(void *library) {
	return FreeLibrary((HMODULE)library) ? 0 : -1;
}

static const char *dlerror(void) {
	static char text[32];
	snprintf(text, sizeof(text), "error %lu", GetLastError());
	return text;
}
#else
#include <dlfcn.h>
#endif

enum { ROUNDS = 60, THREADS = 4, ROUNDS_A_THREAD = 40 };

typedef struct {
	void *library;
	int (*init)(const plum_config_t *);
	int (*cleanup)(void);
	int (*create_mapping)(const plum_mapping_t *, plum_mapping_callback_t);
	int (*query_mapping)(int, plum_state_t *, plum_mapping_t *);
	int (*destroy_mapping)(int);
} plugin_t;

static const char *path;

// ISO C converts no object pointers to function pointers, so their bytes are copied.
static void find(void *library, const char *name, void *function) {
	void *found = dlsym(library, name);
	if (found == NULL)
		check_failed(__FILE__, __LINE__, "%s", dlerror());
	memcpy(function, &found, sizeof(found));
}

static plugin_t open_plugin(void) {
	plugin_t plugin;
	plugin.library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
	if (plugin.library == NULL)
		check_failed(__FILE__, __LINE__, "%s", dlerror());
	find(plugin.library, "plum_init", &plugin.init);
	find(plugin.library, "plum_cleanup", &plugin.cleanup);
	find(plugin.library, "plum_create_mapping", &plugin.create_mapping);
	find(plugin.library, "plum_query_mapping", &plugin.query_mapping);
	find(plugin.library, "plum_destroy_mapping", &plugin.destroy_mapping);
	return plugin;
}

static void close_plugin(const plugin_t *plugin) {
	CHECK(dlclose(plugin->library) == 0);
}

static void live(int round, int ends) {
	plugin_t plugin = open_plugin();
	plum_config_t config = test_config();
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_TCP, 9600);
	CHECK_INT(plugin.init(&config), PLUM_ERR_SUCCESS);
	// The library stays where it is, and so do its ids.
	CHECK_INT(plugin.create_mapping(&mapping, record_event), round);
	// Now and then it is closed before anything has happened.
	if (round % 4 == 0)
		wait_for_event(round, PLUM_STATE_SUCCESS);
	if (ends)
		CHECK_INT(plugin.cleanup(), PLUM_ERR_SUCCESS);
	close_plugin(&plugin);
}

// Every thread is a host of its own that knows nothing of the others.
static void *use_again_and_again(void *unused) {
	(void)unused;
	plum_config_t config = test_config();
	for (int round = 0; round < ROUNDS_A_THREAD; ++round) {
		plugin_t plugin = open_plugin();
		plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_UDP, 9601 + round % 8);
		int initialised = plugin.init(&config);
		CHECK(initialised == PLUM_ERR_SUCCESS || initialised == PLUM_ERR_FAILED);
		int id = plugin.create_mapping(&mapping, record_event);
		CHECK(id >= 0 || id == PLUM_ERR_FAILED);
		if (id >= 0) {
			int result = plugin.query_mapping(id, NULL, NULL);
			CHECK(result == PLUM_ERR_SUCCESS || result == PLUM_ERR_NOT_AVAIL || result == PLUM_ERR_FAILED);
			result = plugin.destroy_mapping(id);
			CHECK(result == PLUM_ERR_SUCCESS || result == PLUM_ERR_NOT_AVAIL || result == PLUM_ERR_FAILED);
		}
		if (round % 2 == 0) {
			int cleaned = plugin.cleanup();
			CHECK(cleaned == PLUM_ERR_SUCCESS || cleaned == PLUM_ERR_FAILED);
		}
		close_plugin(&plugin);
	}
	return NULL;
}

static void live_in_several_threads(void) {
	pthread_t threads[THREADS];
	for (int i = 0; i < THREADS; ++i)
		CHECK(pthread_create(&threads[i], NULL, use_again_and_again, NULL) == 0);
	for (int i = 0; i < THREADS; ++i)
		CHECK(pthread_join(threads[i], NULL) == 0);
	plugin_t plugin = open_plugin();
	int cleaned = plugin.cleanup();
	CHECK(cleaned == PLUM_ERR_SUCCESS || cleaned == PLUM_ERR_FAILED);
	close_plugin(&plugin);
}

int main(int argc, char *argv[]) {
	check_time_limit(200);
	events_init();
	CHECK(argc == 2 || (argc == 3 && strcmp(argv[2], "left-running") == 0));
	path = argv[1];
	if (argc == 3) {
		// Closed, and the program ended, while the worker runs.
		live(0, 0);
		return 0;
	}
	for (int round = 0; round < ROUNDS; ++round)
		live(round, 1);
	live_in_several_threads();
	check_all_destroyed_once();
	return 0;
}
