// A plugin host whose plugin has libplum.a in it: unload PLUGIN. The plugin is closed while a thread of the library waits for
// a resolver, which this program stands in for; then the resolver answers, and that thread goes on to its end.

#define _DEFAULT_SOURCE // struct addrinfo
#include "tasks.h"

#include <dlfcn.h>
#include <netdb.h>

static struct {
	pthread_mutex_t mutex;
	pthread_cond_t changed;
	int answers;
	int waiting;
} resolver = {.mutex = PTHREAD_MUTEX_INITIALIZER};

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **result) {
	(void)node;
	(void)service;
	(void)hints;
	(void)result;
	pthread_mutex_lock(&resolver.mutex);
	++resolver.waiting;
	pthread_cond_broadcast(&resolver.changed);
	while (!resolver.answers)
		pthread_cond_wait(&resolver.changed, &resolver.mutex);
	pthread_mutex_unlock(&resolver.mutex);
	return EAI_NONAME;
}

static int (*use_plum)(const char *domain);

// On a thread that ends before the plugin is closed, so that it is not this one's thread-local variables that keep it in memory.
static void *use_the_plugin(void *unused) {
	(void)unused;
	CHECK_INT(use_plum("plum.test"), strlen("203.0.113.7"));
	return NULL;
}

int main(int argc, char *argv[]) {
	check_time_limit(100);
	CHECK(argc == 2);
	int threads = count_threads();
	void *plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
	if (plugin == NULL)
		check_failed(__FILE__, __LINE__, "%s", dlerror());
	void *found = dlsym(plugin, "use_plum");
	CHECK(found != NULL);
	// ISO C converts no object pointers to function pointers, so their bytes are copied.
	memcpy(&use_plum, &found, sizeof(found));
	pthread_t thread;
	CHECK(pthread_create(&thread, NULL, use_the_plugin, NULL) == 0);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK_INT(resolver.waiting, 1);
	CHECK(count_threads() > threads);
	CHECK(dlclose(plugin) == 0);

	pthread_mutex_lock(&resolver.mutex);
	resolver.answers = 1;
	pthread_cond_broadcast(&resolver.changed);
	pthread_mutex_unlock(&resolver.mutex);
	wait_for_threads(threads);
	return 0;
}
