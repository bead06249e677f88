// A mapping through each protocol, with bytes: mapping pcp|natpmp|upnp|failure|wish
//
// The simulated gateway is started with what makes it speak that protocol alone; see CMakeLists.txt.

#include "events.h"
#include "gateway.h"

#ifndef _WIN32
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#endif

static const char GREETING[] = "hello from behind the gateway";

#ifdef _WIN32
typedef SOCKET socket_t;
#define close_socket closesocket

// Of the program's own sockets; the library asks it for none.
static void start_sockets(void) {
	WSADATA data;
	CHECK(WSAStartup(MAKEWORD(2, 2), &data) == 0);
}

static int set_limit(socket_t descriptor, int option) {
	DWORD limit_ms = CHECK_PATIENCE_MS;
	return setsockopt(descriptor, SOL_SOCKET, option, (const char *)&limit_ms, sizeof(limit_ms));
}
#else
typedef int socket_t;
#define INVALID_SOCKET (-1)
#define close_socket close

static void start_sockets(void) {
}

static int set_limit(socket_t descriptor, int option) {
	struct timeval limit = {CHECK_PATIENCE_MS / 1000, 0};
	return setsockopt(descriptor, SOL_SOCKET, option, &limit, sizeof(limit));
}
#endif

// No read or write of these sockets waits longer than the test has patience.
static socket_t open_socket(int type) {
	socket_t descriptor = socket(AF_INET, type, 0);
	CHECK(descriptor != INVALID_SOCKET);
	CHECK(set_limit(descriptor, SO_RCVTIMEO) == 0);
	CHECK(set_limit(descriptor, SO_SNDTIMEO) == 0);
	return descriptor;
}

static struct sockaddr_in socket_address(const char *address, int port) {
	struct sockaddr_in result;
	memset(&result, 0, sizeof(result));
	result.sin_family = AF_INET;
	result.sin_port = htons((uint16_t)port);
	CHECK(inet_pton(AF_INET, address, &result.sin_addr) == 1);
	return result;
}

// The internal address: 127.0.0.1, or what PLUM_TEST_INTERNAL says.
static const char *internal_address(void) {
	const char *address = getenv("PLUM_TEST_INTERNAL");
	return address != NULL ? address : "127.0.0.1";
}

// A socket on a free port of the internal address; stores the port.
static socket_t open_internal(int type, int *port) {
	socket_t descriptor = open_socket(type);
	struct sockaddr_in address = socket_address(internal_address(), 0);
	socklen_t length = sizeof(address);
	CHECK(bind(descriptor, (struct sockaddr *)&address, length) == 0);
	CHECK(getsockname(descriptor, (struct sockaddr *)&address, &length) == 0);
	if (type == SOCK_STREAM)
		CHECK(listen(descriptor, 1) == 0);
	*port = ntohs(address.sin_port);
	return descriptor;
}

// Connects from the outside, and has the greeting sent from the inside.
static void check_tcp_bytes_arrive(socket_t listener, int external_port) {
	char buffer[sizeof(GREETING)];
	socket_t outside = open_socket(SOCK_STREAM);
	struct sockaddr_in external = socket_address(gateway_forward_address(), external_port);
	CHECK(connect(outside, (struct sockaddr *)&external, sizeof(external)) == 0);
	socket_t inside = accept(listener, NULL, NULL);
	CHECK(inside != INVALID_SOCKET);
	CHECK_INT(send(inside, GREETING, sizeof(GREETING), 0), sizeof(GREETING));
	CHECK_INT(recv(outside, buffer, sizeof(buffer), MSG_WAITALL), sizeof(GREETING));
	CHECK_STRING(buffer, GREETING);
	close_socket(inside);
	close_socket(outside);
}

// A datagram in from the outside, and an answer out to where it came from.
static void check_udp_bytes_arrive(socket_t inside, int external_port) {
	char buffer[64];
	socket_t outside = open_socket(SOCK_DGRAM);
	struct sockaddr_in external = socket_address(gateway_forward_address(), external_port);
	CHECK(connect(outside, (struct sockaddr *)&external, sizeof(external)) == 0);
	CHECK_INT(send(outside, "ping", 5, 0), 5);
	struct sockaddr_in from;
	socklen_t length = sizeof(from);
	CHECK_INT(recvfrom(inside, buffer, sizeof(buffer), 0, (struct sockaddr *)&from, &length), 5);
	CHECK_STRING(buffer, "ping");
	CHECK_INT(sendto(inside, GREETING, sizeof(GREETING), 0, (struct sockaddr *)&from, length), sizeof(GREETING));
	CHECK_INT(recv(outside, buffer, sizeof(buffer), 0), sizeof(GREETING));
	CHECK_STRING(buffer, GREETING);
	close_socket(outside);
}

static void check_closed_outside(int external_port) {
	socket_t outside = open_socket(SOCK_STREAM);
	struct sockaddr_in external = socket_address(gateway_forward_address(), external_port);
	CHECK(connect(outside, (struct sockaddr *)&external, sizeof(external)) != 0);
	close_socket(outside);
}

static void map_and_send_bytes(int expected) {
	int tcp_port, udp_port;
	socket_t listener = open_internal(SOCK_STREAM, &tcp_port);
	socket_t receiver = open_internal(SOCK_DGRAM, &udp_port);
	int tcp = create_recorded(PLUM_IP_PROTOCOL_TCP, tcp_port);
	int udp = create_recorded(PLUM_IP_PROTOCOL_UDP, udp_port);

	event_t tcp_made = wait_for_event(tcp, PLUM_STATE_SUCCESS);
	event_t udp_made = wait_for_event(udp, PLUM_STATE_SUCCESS);
	check_made_by(&tcp_made.mapping, expected);
	check_made_by(&udp_made.mapping, expected);
	CHECK_STRING(tcp_made.mapping.external_host, gateway_external_address());
	CHECK_STRING(udp_made.mapping.external_host, gateway_external_address());
	CHECK_INT(gateway_mappings(), 2);
	check_tcp_bytes_arrive(listener, tcp_made.mapping.external_port);
#ifdef _WIN32
	if (!posix_is_wine()) // the gateway cannot open the external port beside ours
#endif
		check_udp_bytes_arrive(receiver, udp_made.mapping.external_port);

	// One removed by destroy, one by cleanup (where nothing else is asked for, in ABI 0.6 only: cleanup.c).
	CHECK_INT(plum_destroy_mapping(tcp), PLUM_ERR_SUCCESS);
	wait_for_the_end_of(tcp);
	CHECK_INT(gateway_mappings(), 1);
	check_closed_outside(tcp_made.mapping.external_port);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	CHECK_INT(gateway_mappings(), DESTROYED_EVENTS ? 0 : 1);
	CHECK_INT(count_events(tcp, ANY_STATE), 1 + DESTROYED_EVENTS);
	CHECK_INT(count_events(udp, ANY_STATE), 1 + DESTROYED_EVENTS);
	close_socket(listener);
	close_socket(receiver);
}

static void a_closed_gateway_is_a_failure(void) {
	int id = create_recorded(PLUM_IP_PROTOCOL_TCP, 8000);
	event_t failure = wait_for_event(id, ANY_STATE);
	CHECK_INT(failure.state, PLUM_STATE_FAILURE);
	CHECK_INT(failure.mapping.internal_port, 8000);
	CHECK_INT(queried_state(id), PLUM_STATE_FAILURE);
	CHECK_INT(plum_destroy_mapping(id), PLUM_ERR_SUCCESS);
	wait_for_the_end_of(id);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

static void the_wished_external_port_is_given(void) {
	plum_mapping_t mapping = wanted_mapping(PLUM_IP_PROTOCOL_TCP, 8001);
	mapping.external_port = 18001;
	int id = plum_create_mapping(&mapping, record_event);
	CHECK(id >= 0);
	CHECK_INT(wait_for_event(id, PLUM_STATE_SUCCESS).mapping.external_port, 18001);
	int without_wish = create_recorded(PLUM_IP_PROTOCOL_TCP, 8002);
	CHECK_INT(wait_for_event(without_wish, PLUM_STATE_SUCCESS).mapping.external_port, 8002);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

int main(int argc, char *argv[]) {
	check_time_limit(100);
	events_init();
	start_sockets();
	CHECK_INT(argc, 2);
	plum_config_t config = test_config();
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);

	if (strcmp(argv[1], "pcp") == 0)
		map_and_send_bytes(BY_PCP);
	else if (strcmp(argv[1], "natpmp") == 0)
		map_and_send_bytes(BY_NATPMP);
	else if (strcmp(argv[1], "upnp") == 0)
		map_and_send_bytes(BY_UPNP);
	else if (strcmp(argv[1], "failure") == 0)
		a_closed_gateway_is_a_failure();
	else if (strcmp(argv[1], "wish") == 0)
		the_wished_external_port_is_given();
	else
		check_failed(__FILE__, __LINE__, "no such case: %s", argv[1]);

	check_all_destroyed_once();
	return 0;
}
