// A program that links several Rust static libraries: libplum.a, one localised as libplum.a is, and one as cargo leaves it.
// Each has its own Rust runtime. A panic in one must be caught by that one.

#include "../check.h"
#include <plum/plum.h>

int catch_localised(int value);
int catch_other(int value);

int main(void) {
	check_time_limit(60);
	plum_config_t config;
	memset(&config, 0, sizeof(config));
	config.log_level = PLUM_LOG_LEVEL_NONE;
	for (int round = 0; round < 3; ++round) {
		CHECK_INT(catch_other(round), 42);
		CHECK_INT(catch_localised(round), 42);
		CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
		CHECK_INT(catch_localised(round), 42);
		CHECK_INT(catch_other(round), 42);
		CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	}
	return 0;
}
