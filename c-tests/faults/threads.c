// The limits that keep a process from starting threads: their number for a user (RLIMIT_NPROC) and the memory for their
// stacks (RLIMIT_AS). Memory for anything else is no topic here: as everywhere in Rust, its end is the program's.

#include "shim.h"
#include "../events.h"
#include "../gateway.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <arpa/inet.h>

#define DOMAIN "dummytls.test"

// Every name is that of the gateway's external address.
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
	(void)node;
	(void)service;
	(void)hints;
	struct found {
		struct addrinfo info;
		struct sockaddr_in address;
	} *found = calloc(1, sizeof(*found));
	CHECK(found != NULL);
	found->address.sin_family = AF_INET;
	CHECK(inet_pton(AF_INET, gateway_external_address(), &found->address.sin_addr) == 1);
	found->info.ai_family = AF_INET;
	found->info.ai_socktype = SOCK_STREAM;
	found->info.ai_addrlen = sizeof(found->address);
	found->info.ai_addr = (struct sockaddr *)&found->address;
	*result = &found->info;
	return 0;
}

void freeaddrinfo(struct addrinfo *info) {
	free(info);
}

static struct rlimit unlimited;

// No more threads than there are.
static void take_threads(void) {
	CHECK(getrlimit(RLIMIT_NPROC, &unlimited) == 0);
	struct rlimit limit = unlimited;
	limit.rlim_cur = 1;
	CHECK(setrlimit(RLIMIT_NPROC, &limit) == 0);
}

static void give_threads(void) {
	CHECK(setrlimit(RLIMIT_NPROC, &unlimited) == 0);
}

static void init_fails_and_works_later(void) {
	plum_config_t config = faults_config();
	int descriptors = count_descriptors(), threads = count_threads();
	forget_log();
	take_threads();
	CHECK_INT(plum_init(&config), PLUM_ERR_FAILED);
	CHECK_INT(count_log(PLUM_LOG_LEVEL_ERROR, "thread", strerror(EAGAIN)), 1);
	give_threads();
	CHECK_INT(count_descriptors(), descriptors);
	CHECK_INT(count_threads(), threads);
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

static void no_memory_for_a_stack(void) {
	plum_config_t config = faults_config();
	// What the process has now, and less than a stack besides.
	long pages = 0;
	FILE *stream = fopen("/proc/self/statm", "r");
	CHECK(stream != NULL && fscanf(stream, "%ld", &pages) == 1);
	fclose(stream);
	struct rlimit before;
	CHECK(getrlimit(RLIMIT_AS, &before) == 0);
	struct rlimit limit = before;
	limit.rlim_cur = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + (2 << 20);
	forget_log();
	CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
	CHECK_INT(plum_init(&config), PLUM_ERR_FAILED);
	CHECK(setrlimit(RLIMIT_AS, &before) == 0);
	CHECK_INT(count_log(PLUM_LOG_LEVEL_ERROR, "thread", ""), 1);
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

static void names_need_threads(void) {
	plum_config_t config = faults_config();
	config.dummytls_domain = DOMAIN;
	forget_log();
	CHECK_INT(plum_init(&config), PLUM_ERR_SUCCESS);
	take_threads();
	int id = create_recorded(PLUM_IP_PROTOCOL_TCP, 5100);
	work_t before = worker_work();
	// Without a thread to resolve it the name is not known; the address is as good.
	CHECK_STRING(wait_for_event(id, PLUM_STATE_SUCCESS).mapping.external_host, gateway_external_address());
	wait_for_log(PLUM_LOG_LEVEL_WARN, "DummyTLS", strerror(EAGAIN), 1);
	CHECK_INT(count_log(PLUM_LOG_LEVEL_WARN, "does not resolve", ""), 0);
	check_little_work(before, 40);
	char text[1000];
	CHECK_INT(plum_get_dummytls_certificate(PLUM_DUMMYTLS_PEM_CERT, text, sizeof(text)), PLUM_ERR_NOT_AVAIL);
	wait_for_log(PLUM_LOG_LEVEL_ERROR, "cert.pem", strerror(EAGAIN), 1);
	give_threads();
	// At once: nobody waits until what was not asked is forgotten.
	CHECK(plum_get_dummytls_host(gateway_external_address(), text, sizeof(text)) > 0);
	CHECK(strstr(text, DOMAIN) != NULL);
	int next = create_recorded(PLUM_IP_PROTOCOL_TCP, 5101);
	CHECK(strstr(wait_for_event(next, PLUM_STATE_SUCCESS).mapping.external_host, DOMAIN) != NULL);
	CHECK_INT(plum_cleanup(), PLUM_ERR_SUCCESS);
}

int main(void) {
	check_time_limit(100);
	// The limit is none for root.
	if (geteuid() == 0)
		CHECK(setgid(65534) == 0 && setuid(65534) == 0);
	faults_config();
	events_init();
	// First: the C library keeps the stacks of threads that have ended for others.
	no_memory_for_a_stack();
	init_fails_and_works_later();
	names_need_threads();
	check_all_destroyed_once();
	return 0;
}
