// The header alone, under the strictest flags, in C99 and in C++11. PLUM_HEADER is the spelling to try.

#include PLUM_HEADER

// Nothing else is included: the header must bring what it needs.
static plum_mapping_t mapping;
static plum_config_t config;

static void handle_event(int id, plum_state_t state, const plum_mapping_t *changed) {
	(void)id;
	(void)state;
	(void)changed;
}

static void handle_message(plum_log_level_t level, const char *message) {
	(void)level;
	(void)message;
}

int main(void) {
	char buffer[PLUM_MAX_ADDRESS_LEN];
	plum_state_t state = PLUM_STATE_DESTROYED;
	config.log_callback = handle_message;
#if PLUM_TEST_ABI >= 602
	config.protocol = PLUM_PROTOCOL_ANY;
#endif
	mapping.protocol = PLUM_IP_PROTOCOL_TCP;
	mapping.external_host[PLUM_MAX_HOST_LEN - 1] = '\0';

	// Not initialised: every call says so, and links.
	int id = plum_create_mapping(&mapping, handle_event);
	int wrong = id != PLUM_ERR_FAILED;
	wrong |= plum_query_mapping(0, &state, &mapping) != PLUM_ERR_FAILED;
	wrong |= plum_destroy_mapping(0) != PLUM_ERR_FAILED;
	wrong |= plum_cleanup() != PLUM_ERR_FAILED;
	wrong |= plum_get_dummytls_host("192.0.2.1", buffer, sizeof(buffer)) != PLUM_ERR_FAILED;
	wrong |= plum_get_dummytls_certificate(PLUM_DUMMYTLS_PEM_CERT, buffer, sizeof(buffer)) != PLUM_ERR_FAILED;
#if PLUM_TEST_ABI >= 602
	plum_set_log_level(PLUM_LOG_LEVEL_NONE);
#endif
	return wrong;
}
