// Shows a mapping at work, by itself: ./demo runs it with a simulated gateway.
//
//   demo FORWARD_ADDRESS
//
// FORWARD_ADDRESS is where the simulated gateway's public side is reached on this machine.

#define _POSIX_C_SOURCE 200809L

#include <plum/plum.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static const char GREETING[] = "Hello from behind the gateway!";

static void fail(const char *what) {
	fprintf(stderr, "demo: %s\n", what);
	exit(1);
}

// --- what the library reports ---

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static plum_state_t reported_state = PLUM_STATE_PENDING;
static plum_mapping_t reported;

static void mapping_callback(int id, plum_state_t state, const plum_mapping_t *mapping) {
	(void)id;
	pthread_mutex_lock(&mutex);
	reported_state = state;
	reported = *mapping;
	pthread_cond_signal(&changed);
	pthread_mutex_unlock(&mutex);
}

// Waits for the next report; the library makes one within its timeouts.
static plum_state_t wait_while(plum_state_t state) {
	pthread_mutex_lock(&mutex);
	while (reported_state == state)
		pthread_cond_wait(&changed, &mutex);
	plum_state_t result = reported_state;
	pthread_mutex_unlock(&mutex);
	return result;
}

static const char *protocol_name(plum_mapping_protocol_t protocol) {
	static const char *const names[] = {"unknown", "PCP", "NAT-PMP", "UPnP-IGD", "direct"};
	return protocol <= PLUM_MAPPING_PROTOCOL_DIRECT ? names[protocol] : names[0];
}

// --- a server inside, a client outside ---

static void *serve(void *argument) {
	int listener = *(int *)argument;
	int connection = accept(listener, NULL, NULL);
	if (connection < 0 || send(connection, GREETING, sizeof(GREETING), 0) != (ssize_t)sizeof(GREETING))
		fail("the server could not greet");
	close(connection);
	return NULL;
}

static int open_listener(uint16_t *port) {
	struct sockaddr_in address;
	socklen_t length = sizeof(address);
	memset(&address, 0, sizeof(address));
	address.sin_family = AF_INET;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	int listener = socket(AF_INET, SOCK_STREAM, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&address, length) != 0 || listen(listener, 1) != 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &length) != 0)
		fail("no port to listen on");
	*port = ntohs(address.sin_port);
	return listener;
}

// Connects to the gateway's public side; -1 when nothing is open there.
static int connect_from_outside(const char *forward_address, uint16_t port) {
	struct sockaddr_in address;
	memset(&address, 0, sizeof(address));
	address.sin_family = AF_INET;
	address.sin_port = htons(port);
	if (inet_pton(AF_INET, forward_address, &address.sin_addr) != 1)
		fail("FORWARD_ADDRESS is no IPv4 address");
	int connection = socket(AF_INET, SOCK_STREAM, 0);
	if (connection < 0)
		fail("no socket");
	if (connect(connection, (struct sockaddr *)&address, sizeof(address)) != 0) {
		close(connection);
		return -1;
	}
	return connection;
}

int main(int argc, char *argv[]) {
	if (argc != 2) {
		fprintf(stderr, "usage: %s FORWARD_ADDRESS\n", argv[0]);
		return 2;
	}
	alarm(20); // whatever happens

	uint16_t port;
	int listener = open_listener(&port);
	pthread_t server;
	if (pthread_create(&server, NULL, serve, &listener) != 0)
		fail("no thread");
	printf("  inside:   a server listens on TCP port %hu\n", port);

	plum_config_t config;
	memset(&config, 0, sizeof(config));
	config.log_level = PLUM_LOG_LEVEL_WARN;
	if (plum_init(&config) != PLUM_ERR_SUCCESS)
		fail("plum_init failed");

	plum_mapping_t mapping;
	memset(&mapping, 0, sizeof(mapping));
	mapping.protocol = PLUM_IP_PROTOCOL_TCP;
	mapping.internal_port = port;
	int id = plum_create_mapping(&mapping, mapping_callback);
	if (id < 0)
		fail("plum_create_mapping failed");
	if (wait_while(PLUM_STATE_PENDING) != PLUM_STATE_SUCCESS)
		fail("the gateway made no mapping");
	uint16_t external_port = reported.external_port;
	printf("  mapped:   %s:%hu -> port %hu, by %s\n", reported.external_host, external_port, port,
	       protocol_name(reported.mapping_protocol));

	int connection = connect_from_outside(argv[1], external_port);
	char greeting[sizeof(GREETING)] = "";
	if (connection < 0 || recv(connection, greeting, sizeof(greeting), MSG_WAITALL) != (ssize_t)sizeof(greeting) ||
	    strcmp(greeting, GREETING) != 0)
		fail("the greeting did not come through");
	printf("  outside:  \"%s\" came through %s:%hu (here %s)\n", greeting, reported.external_host, external_port,
	       argv[1]);
	close(connection);
	pthread_join(server, NULL);

	if (plum_destroy_mapping(id) != PLUM_ERR_SUCCESS || wait_while(PLUM_STATE_SUCCESS) != PLUM_STATE_DESTROYED)
		fail("the mapping was not removed");
	if (connect_from_outside(argv[1], external_port) >= 0)
		fail("the port is still open");
	printf("  removed:  port %hu is closed again\n", external_port);
	close(listener);
	return plum_cleanup() == PLUM_ERR_SUCCESS ? 0 : 1;
}
