// A plugin with libplum.a in it, for unload.c.

#include <plum/plum.h>

#include <string.h>

int use_plum(const char *domain);

// A session in which a name is asked for that is never answered.
int use_plum(const char *domain) {
	char host[PLUM_MAX_HOST_LEN];
	plum_config_t config;
	memset(&config, 0, sizeof(config));
	config.log_level = PLUM_LOG_LEVEL_NONE;
	config.dummytls_domain = domain;
	if (plum_init(&config) != PLUM_ERR_SUCCESS)
		return -1;
	int length = plum_get_dummytls_host("203.0.113.7", host, sizeof(host));
	return plum_cleanup() == PLUM_ERR_SUCCESS ? length : -1;
}
