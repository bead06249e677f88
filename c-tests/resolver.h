// For a program with a getaddrinfo of its own, which the linker takes before the C library's.
// To be included after _DEFAULT_SOURCE is defined (struct addrinfo).

#ifndef PLUM_TEST_RESOLVER_H
#define PLUM_TEST_RESOLVER_H

#include "check.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

// Whether nobody has to be asked: `node` is an address in digits, or NULL.
static inline int resolver_knows(const char *node, const struct addrinfo *hints, struct in_addr *address) {
	if (node != NULL)
		return inet_pton(AF_INET, node, address) == 1;
	address->s_addr = htonl(hints != NULL && hints->ai_flags & AI_PASSIVE ? INADDR_ANY : INADDR_LOOPBACK);
	return 1;
}

// The result of getaddrinfo that has this address alone.
static inline int resolver_result(struct in_addr address, const char *service, const struct addrinfo *hints,
                                  struct addrinfo **result) {
	struct found {
		struct addrinfo info;
		struct sockaddr_in address;
	} *found = calloc(1, sizeof(*found));
	CHECK(found != NULL);
	found->address.sin_family = AF_INET;
	found->address.sin_addr = address;
	found->address.sin_port = htons((uint16_t)(service != NULL ? atoi(service) : 0));
	found->info.ai_family = AF_INET;
	found->info.ai_socktype = hints != NULL && hints->ai_socktype != 0 ? hints->ai_socktype : SOCK_STREAM;
	found->info.ai_protocol = hints != NULL ? hints->ai_protocol : 0;
	found->info.ai_addrlen = sizeof(found->address);
	found->info.ai_addr = (struct sockaddr *)&found->address;
	*result = &found->info;
	return 0;
}

void freeaddrinfo(struct addrinfo *info) {
	free(info);
}

#endif
