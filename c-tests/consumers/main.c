/* A program of somebody else's, which links libplum in one of the ways that a project may. C90 but for the header. */

#ifdef FLAT_HEADER
#include "plum.h"
#else
#include <plum/plum.h>
#endif

#include <stdio.h>
#include <string.h>

#if defined(EXPECT_STATIC) != defined(PLUM_STATIC)
#error "PLUM_STATIC does not come with the static library, or comes with the shared one"
#endif

int main(void) {
	plum_config_t config;
	char address[PLUM_MAX_ADDRESS_LEN];
	memset(&config, 0, sizeof(config));
	config.log_level = PLUM_LOG_LEVEL_NONE;
	/* No mapping is created: not a packet is sent. */
	if (plum_get_local_address(address, sizeof(address)) == PLUM_ERR_INVALID)
		return 1;
	if (plum_init(&config) != PLUM_ERR_SUCCESS || plum_cleanup() != PLUM_ERR_SUCCESS)
		return 1;
	puts("linked and running");
	return 0;
}
