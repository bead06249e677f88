// A plugin host: the library is loaded, used and closed again and again: dlopen LIBRARY

#include "events.h"

#include <dlfcn.h>

// ISO C converts no object pointers to function pointers, so their bytes are copied.
static void find(void *library, const char *name, void *function) {
	void *found = dlsym(library, name);
	if (found == NULL)
		check_failed(__FILE__, __LINE__, "%s", dlerror());
	memcpy(function, &found, sizeof(found));
}

int main(int argc, char *argv[]) {
	check_time_limit(100);
	events_init();
	CHECK_INT(argc, 2);
	for (int round = 0; round < 5; ++round) {
		int (*init)(const plum_config_t *);
		int (*create_mapping)(const plum_mapping_t *, plum_mapping_callback_t);
		int (*cleanup)(void);
		void *library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
		if (library == NULL)
			check_failed(__FILE__, __LINE__, "%s", dlerror());
		find(library, "plum_init", &init);
		find(library, "plum_create_mapping", &create_mapping);
		find(library, "plum_cleanup", &cleanup);

		plum_config_t config = test_config();
		plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_TCP, 9600);
		CHECK_INT(init(&config), PLUM_ERR_SUCCESS);
		// The library stays where it is, and so do its ids.
		CHECK_INT(create_mapping(&mapping, record_event), round);
		wait_for_event(round, PLUM_STATE_SUCCESS);
		// The last time it is closed while its worker runs.
		if (round < 4)
			CHECK_INT(cleanup(), PLUM_ERR_SUCCESS);
		CHECK(dlclose(library) == 0);
	}
	return 0;
}
