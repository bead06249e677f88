// Opens a port on the gateway and keeps it open until Enter is pressed.
//
//   example [PORT] [tcp|udp] [ADDRESS]
//
// With an IPv6 address of this machine, or :: for one that the library chooses, it opens a pinhole through the gateway's firewall
// for IPv6 in place of a mapping of IPv4.
//
// Compile it against an installed libplum with: cc main.c $(pkg-config --cflags --libs libplum) -lpthread

#define _POSIX_C_SOURCE 200809L

// Both spellings work; the second with .../include/plum on the include path.
#ifndef USE_FLAT_HEADER
#include <plum/plum.h>
#else
#include "plum.h"
#endif

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Callbacks come from the library's own thread: what they share with main needs a lock.
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int has_result;

static const char *protocol_name(plum_mapping_protocol_t protocol) {
	switch (protocol) {
	case PLUM_MAPPING_PROTOCOL_PCP:
		return "PCP";
	case PLUM_MAPPING_PROTOCOL_NATPMP:
		return "NAT-PMP";
	case PLUM_MAPPING_PROTOCOL_UPNP:
		return "UPnP-IGD";
	case PLUM_MAPPING_PROTOCOL_DIRECT:
		return "no NAT";
	default:
		return "unknown";
	}
}

// An address and port as in a URL: an IPv6 address has brackets.
static const char *external_text(const plum_mapping_t *mapping, char *text, size_t size) {
	const char *format = strchr(mapping->external_host, ':') != NULL ? "[%s]:%hu" : "%s:%hu";
	snprintf(text, size, format, mapping->external_host, mapping->external_port);
	return text;
}

static void mapping_callback(int id, plum_state_t state, const plum_mapping_t *mapping) {
	char text[PLUM_MAX_HOST_LEN + 8];
	switch (state) {
	case PLUM_STATE_SUCCESS:
		printf("Mapping %d: open, %s leads to port %hu here (%s)\n", id, external_text(mapping, text, sizeof(text)),
		       mapping->internal_port, protocol_name(mapping->mapping_protocol));
		break;
	case PLUM_STATE_FAILURE:
		printf("Mapping %d: failed, no gateway opens port %hu; still trying\n", id, mapping->internal_port);
		break;
	case PLUM_STATE_DESTROYED:
		printf("Mapping %d: removed\n", id);
		break;
	default:
		break;
	}
	fflush(stdout);

	pthread_mutex_lock(&mutex);
	has_result = 1;
	pthread_cond_signal(&changed);
	pthread_mutex_unlock(&mutex);
}

static void interrupt(int signal_number) {
	(void)signal_number; // its arrival ends getchar
}

int main(int argc, char *argv[]) {
	long port = argc > 1 ? strtol(argv[1], NULL, 10) : 8000;
	if (port < 1 || port > 65535) {
		fprintf(stderr, "usage: %s [PORT] [tcp|udp] [ADDRESS]\n", argv[0]);
		return 2;
	}

#ifdef _WIN32
	signal(SIGINT, interrupt);
#else
	struct sigaction action;
	memset(&action, 0, sizeof(action));
	action.sa_handler = interrupt;
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
#endif

	plum_config_t config;
	memset(&config, 0, sizeof(config));
	config.log_level = PLUM_LOG_LEVEL_WARN;
	if (plum_init(&config) != PLUM_ERR_SUCCESS) {
		fprintf(stderr, "Initialisation failed\n");
		return 1;
	}

	char local[PLUM_MAX_ADDRESS_LEN];
	if (plum_get_local_address(local, sizeof(local)) > 0)
		printf("Local address: %s\n", local);

	plum_mapping_t mapping;
	memset(&mapping, 0, sizeof(mapping));
	mapping.protocol = argc > 2 && strcmp(argv[2], "udp") == 0 ? PLUM_IP_PROTOCOL_UDP : PLUM_IP_PROTOCOL_TCP;
	mapping.internal_port = (uint16_t)port;
	if (argc > 3)
		snprintf(mapping.external_host, sizeof(mapping.external_host), "%s", argv[3]);
	int id = plum_create_mapping(&mapping, mapping_callback);
	if (id < 0) {
		fprintf(stderr, "The mapping could not be created\n");
		plum_cleanup();
		return 1;
	}

	// Success or failure: one of them comes, within config.discover_timeout + config.mapping_timeout.
	pthread_mutex_lock(&mutex);
	while (!has_result)
		pthread_cond_wait(&changed, &mutex);
	pthread_mutex_unlock(&mutex);

	plum_state_t state;
	char text[PLUM_MAX_HOST_LEN + 8];
	if (plum_query_mapping(id, &state, &mapping) == PLUM_ERR_SUCCESS && state == PLUM_STATE_SUCCESS)
		printf("Reachable at %s. ", external_text(&mapping, text, sizeof(text)));
	printf("Press Enter to quit.\n");
	fflush(stdout);
	getchar();

	plum_destroy_mapping(id);
	// Removes whatever is left, and waits until the callback has been told.
	plum_cleanup();
	return 0;
}
