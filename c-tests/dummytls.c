// DummyTLS against a certificate server and a resolver of the test's own.
//
// The library asks the C library for names and connections; this program brings getaddrinfo and connect of its own,
// which come before the C library's. So no question leaves the machine: names are answered from the table below, and port
// 80 of the server's loopback address leads to a port that needs no privilege.

#define _DEFAULT_SOURCE // syscall, struct addrinfo
#include "events.h"
#include "gateway.h"
#include "resolver.h"
#include "tasks.h"

#include <sys/syscall.h>

#define DOMAIN "dummytls.test"
#define SERVER_ADDRESS "127.0.0.1"

// --- the resolver ---

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	int hangs;   // questions for hosts are answered only when this is 0 again
	int waiting; // how many hang
	int asked;   // questions for hosts
	int wrong;   // answers name another address
} resolver = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static void resolver_hangs(int hangs) {
	pthread_mutex_lock(&resolver.mutex);
	resolver.hangs = hangs;
	pthread_cond_broadcast(&resolver.changed);
	while (!hangs && resolver.waiting > 0)
		CHECK(check_wait_until(&resolver.changed, &resolver.mutex, check_now_ms() + CHECK_PATIENCE_MS));
	pthread_mutex_unlock(&resolver.mutex);
}

// "1-2-3-4.dummytls.test" has the address 1.2.3.4; 0 for a name that is no such host.
static int host_address(const char *name, struct in_addr *address) {
	char text[64];
	const char *dot = strchr(name, '.');
	if (dot == NULL || strcmp(dot + 1, DOMAIN) != 0 || (size_t)(dot - name) >= sizeof(text))
		return 0;
	memcpy(text, name, (size_t)(dot - name));
	text[dot - name] = '\0';
	for (char *c = text; *c != '\0'; ++c)
		if (*c == '-')
			*c = '.';
	return inet_pton(AF_INET, text, address) == 1;
}

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
	struct in_addr address;
	if (resolver_knows(node, hints, &address))
		return resolver_result(address, service, hints, result);
	if (strcmp(node, DOMAIN) == 0) {
		address.s_addr = inet_addr(SERVER_ADDRESS);
	} else if (host_address(node, &address)) {
		pthread_mutex_lock(&resolver.mutex);
		++resolver.asked;
		++resolver.waiting;
		pthread_cond_broadcast(&resolver.changed);
		while (resolver.hangs)
			pthread_cond_wait(&resolver.changed, &resolver.mutex);
		--resolver.waiting;
		if (resolver.wrong)
			address.s_addr = htonl(ntohl(address.s_addr) + 1);
		pthread_cond_broadcast(&resolver.changed);
		pthread_mutex_unlock(&resolver.mutex);
	} else {
		fprintf(stderr, "the library asked for \"%s\"\n", node);
		return EAI_NONAME;
	}

	return resolver_result(address, service, hints, result);
}

// --- the certificate server ---

static struct {
	int listener;
	struct sockaddr_in address;
	pthread_mutex_t mutex;
	int requests;
	int gone; // answers 404
	char last_request[512];
} server = {.mutex = PTHREAD_MUTEX_INITIALIZER};

int connect(int descriptor, const struct sockaddr *address, socklen_t length) {
	if (address->sa_family == AF_INET) {
		struct sockaddr_in to;
		memcpy(&to, address, sizeof(to));
		if (to.sin_port == htons(80)) {
			CHECK(to.sin_addr.s_addr == inet_addr(SERVER_ADDRESS));
			return (int)syscall(SYS_connect, descriptor, &server.address, sizeof(server.address));
		}
	}
	return (int)syscall(SYS_connect, descriptor, address, length);
}

static void answer(int connection) {
	char request[512];
	size_t length = 0;
	while (length < sizeof(request) - 1) {
		ssize_t count = recv(connection, request + length, sizeof(request) - 1 - length, 0);
		if (count <= 0)
			break;
		length += (size_t)count;
		request[length] = '\0';
		if (strstr(request, "\r\n\r\n") != NULL)
			break;
	}
	request[length] = '\0';

	pthread_mutex_lock(&server.mutex);
	++server.requests;
	int number = server.requests;
	int gone = server.gone;
	strcpy(server.last_request, request);
	pthread_mutex_unlock(&server.mutex);

	char path[64] = "";
	CHECK(sscanf(request, "GET /%63s HTTP/1.", path) == 1);
	char body[256];
	const char *label = strcmp(path, "privkey.pem") == 0 ? "PRIVATE KEY" : "CERTIFICATE";
	snprintf(body, sizeof(body), "-----BEGIN %s-----\n%s %d\n-----END %s-----\n", label, path, number, label);
	char response[512];
	if (gone)
		snprintf(response, sizeof(response), "HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone");
	else
		snprintf(response, sizeof(response), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
		         strlen(body), body);
	CHECK(send(connection, response, strlen(response), MSG_NOSIGNAL) == (ssize_t)strlen(response));
	close(connection);
}

static void *serve(void *unused) {
	(void)unused;
	for (;;) {
		int connection = accept(server.listener, NULL, NULL);
		if (connection < 0)
			return NULL; // the socket was shut down: the test is over
		answer(connection);
	}
}

static pthread_t start_server(void) {
	pthread_t thread;
	socklen_t length = sizeof(server.address);
	server.listener = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(server.listener >= 0);
	server.address.sin_family = AF_INET;
	server.address.sin_addr.s_addr = inet_addr(SERVER_ADDRESS);
	CHECK(bind(server.listener, (struct sockaddr *)&server.address, length) == 0);
	CHECK(getsockname(server.listener, (struct sockaddr *)&server.address, &length) == 0);
	CHECK(listen(server.listener, 8) == 0);
	CHECK(pthread_create(&thread, NULL, serve, NULL) == 0);
	return thread;
}

static int server_requests(void) {
	pthread_mutex_lock(&server.mutex);
	int requests = server.requests;
	pthread_mutex_unlock(&server.mutex);
	return requests;
}

// --- the tests ---

static void init(void) {
	// The name is copied: what the program does with its string afterwards is its own affair.
	char domain[] = DOMAIN;
	plum_config_t config = test_config();
	config.log_level = PLUM_LOG_LEVEL_ERROR;
	config.dummytls_domain = domain;
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	memset(domain, 'x', sizeof(domain) - 1);
}

// The host name that stands for an address, as the library should say it.
static const char *expected_host(const char *address) {
	static char host[PLUM_MAX_HOST_LEN];
	snprintf(host, sizeof(host), "%s.%s", address, DOMAIN);
	for (char *c = host; c < host + strlen(address); ++c)
		if (*c == '.')
			*c = '-';
	return host;
}

static void a_host_stands_for_an_address(void) {
	char host[PLUM_MAX_HOST_LEN];
	init();
	int length = plum_get_dummytls_host("198.51.100.7", host, sizeof(host));
	CHECK_STRING(host, "198-51-100-7." DOMAIN);
	CHECK_INT(length, strlen(host));
	// Cut like snprintf.
	char small[5];
	CHECK_INT(plum_get_dummytls_host("198.51.100.7", small, sizeof(small)), length);
	CHECK_STRING(small, "198-");
	CHECK_INT(plum_get_dummytls_host("198.51.100.7", NULL, 0), length);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

static void a_mapping_reports_the_host_of_port(int port) {
	int id = create_recorded(PLUM_IP_PROTOCOL_TCP, port);
	event_t success = wait_for_event(id, PLUM_STATE_SUCCESS);
	CHECK_STRING(success.mapping.external_host, expected_host(gateway_external_address()));
	plum_mapping_t mapping;
	CHECK_INT(plum_query_mapping(id, NULL, &mapping), PLUM_ERR_SUCCESS);
	CHECK_STRING(mapping.external_host, success.mapping.external_host);
}

static void a_mapping_reports_the_host(void) {
	init();
	a_mapping_reports_the_host_of_port(7000);
	CHECK(resolver.asked > 0);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

static void a_name_that_means_another_address_is_not_reported(void) {
	resolver.wrong = 1;
	init();
	int id = create_recorded(PLUM_IP_PROTOCOL_TCP, 7001);
	CHECK_STRING(wait_for_event(id, PLUM_STATE_SUCCESS).mapping.external_host, gateway_external_address());
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	resolver.wrong = 0;
}

// A mapping waits for a resolver no longer than a second.
static void a_resolver_that_hangs_costs_a_second(void) {
	resolver_hangs(1);
	init();
	long long started_ms = check_now_ms();
	int id = create_recorded(PLUM_IP_PROTOCOL_TCP, 7002);
	event_t success = wait_for_event(id, PLUM_STATE_SUCCESS);
	CHECK_STRING(success.mapping.external_host, gateway_external_address());
	CHECK(success.at_ms - started_ms <= check_stretched_ms(1500));
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	CHECK_INT(count_events(id, PLUM_STATE_DESTROYED), DESTROYED_EVENTS);
	resolver_hangs(0);
}

// Cleanup does not wait for it at all, and the next session begins while it hangs. Its late answers reach nobody.
static void cleanup_leaves_a_resolver_behind(void) {
	enum { ROUNDS = 3 }; // each leaves a thread behind, of which there are four at most
	long long fastest_ms = CHECK_PATIENCE_MS;
	resolver_hangs(1);
	for (int round = 1; round <= ROUNDS; ++round) {
		init();
		int id = create_recorded(PLUM_IP_PROTOCOL_TCP, 7003);
		long long deadline_ms = check_now_ms() + CHECK_PATIENCE_MS;
		pthread_mutex_lock(&resolver.mutex);
		while (resolver.waiting < round)
			CHECK(check_wait_until(&resolver.changed, &resolver.mutex, deadline_ms));
		pthread_mutex_unlock(&resolver.mutex);
		long long started_ms = check_now_ms();
		CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
		long long took_ms = check_now_ms() - started_ms;
		fastest_ms = took_ms < fastest_ms ? took_ms : fastest_ms;
		CHECK_INT(count_events(id, PLUM_STATE_DESTROYED), DESTROYED_EVENTS);
	}
	// The fastest: the machine may be busy with other things.
	CHECK(fastest_ms < check_stretched_ms(500));
	init();
	resolver_hangs(0);
	a_mapping_reports_the_host_of_port(7004);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

static void certificates_are_fetched_once(void) {
	static const char *const paths[] = {"cert.pem", "chain.pem", "fullchain.pem", "privkey.pem"};
	char first[4096];
	char again[4096];
	init();
	for (int type = PLUM_DUMMYTLS_PEM_CERT; type <= PLUM_DUMMYTLS_PEM_PRIVKEY; ++type) {
		int length = plum_get_dummytls_certificate((plum_dummytls_cert_type_t)type, first, sizeof(first));
		int requests = server_requests();
		CHECK(length > 0);
		CHECK_INT(strlen(first), length);
		CHECK(strstr(first, paths[type]) != NULL);
		CHECK(strstr(server.last_request, "Host: " DOMAIN "\r\n") != NULL ||
		      strstr(server.last_request, "Host: " DOMAIN ":80\r\n") != NULL);

		// Kept for a day, also for a caller with a small buffer.
		CHECK_INT(plum_get_dummytls_certificate((plum_dummytls_cert_type_t)type, again, sizeof(again)), length);
		CHECK_STRING(again, first);
		CHECK_INT(plum_get_dummytls_certificate((plum_dummytls_cert_type_t)type, NULL, 0), length);
		CHECK_INT(plum_get_dummytls_certificate((plum_dummytls_cert_type_t)type, again, 6), length);
		CHECK_STRING(again, "-----");
		CHECK_INT(server_requests(), requests);
	}
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

// The cache outlives no cleanup: the next life asks anew.
static void a_certificate_that_is_not_there_is_not_available(void) {
	char buffer[256];
	server.gone = 1;
	init();
	CHECK_INT(plum_get_dummytls_certificate(PLUM_DUMMYTLS_PEM_CERT, buffer, sizeof(buffer)), PLUM_ERR_NOT_AVAIL);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
	server.gone = 0;
}

static const row_t rows[] = {
    ROW(a_host_stands_for_an_address),
    ROW(a_mapping_reports_the_host),
    ROW(a_name_that_means_another_address_is_not_reported),
    ROW(a_resolver_that_hangs_costs_a_second),
    ROW(cleanup_leaves_a_resolver_behind),
    ROW(certificates_are_fetched_once),
    ROW(a_certificate_that_is_not_there_is_not_available),
};

int main(void) {
	check_time_limit(100);
	events_init();
	check_condition_init(&resolver.changed);
	int threads = count_threads();
	pthread_t thread = start_server();
	CHECK_ROWS(rows);
	check_all_destroyed_once();

	CHECK(shutdown(server.listener, SHUT_RDWR) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	close(server.listener);
	wait_for_threads(threads);
	return 0;
}
