/* A shared library of the 0.5 ABI in front of one of 0.6: a stand-in for an old libplum.so, with which the harness tries that it
 * can measure one. LIBRARY, at compile time, is the path of the one behind. */

#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { HOST_LEN = 256 };

struct config_05 {
    int log_level;
    void (*log_callback)(int, const char *);
    const char *dummytls_domain;
};

struct config_06 {
    int log_level;
    void (*log_callback)(int, const char *);
    const char *dummytls_domain;
    int discover_timeout, mapping_timeout, recheck_period, protocol;
};

struct mapping_05 {
    int protocol;
    uint16_t internal_port, external_port;
    char external_host[HOST_LEN];
    void *user_ptr;
};

struct mapping_06 {
    int protocol, mapping_protocol;
    uint16_t internal_port, external_port;
    char external_host[HOST_LEN];
    void *user_ptr;
};

typedef void (*callback_05)(int, int, const struct mapping_05 *);
typedef void (*callback_06)(int, int, const struct mapping_06 *);

static void *library;
static callback_05 program;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void)
{
    library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        abort();
}

static void *behind(const char *name)
{
    pthread_once(&once, load);
    void *found = dlsym(library, name);
    if (found == NULL)
        abort();
    return found;
}

static struct mapping_05 to_05(const struct mapping_06 *from)
{
    struct mapping_05 to;
    to.protocol = from->protocol;
    to.internal_port = from->internal_port;
    to.external_port = from->external_port;
    memcpy(to.external_host, from->external_host, HOST_LEN);
    to.user_ptr = from->user_ptr;
    return to;
}

/* The program under measurement has one callback for all its mappings. */
static void on_event(int id, int state, const struct mapping_06 *mapping)
{
    struct mapping_05 old = to_05(mapping);
    program(id, state, &old);
}

int plum_init(const struct config_05 *config)
{
    struct config_06 new = {.log_level = config->log_level,
                            .log_callback = config->log_callback,
                            .dummytls_domain = config->dummytls_domain};
    return ((int (*)(const struct config_06 *))behind("plum_init"))(&new);
}

int plum_cleanup(void)
{
    return ((int (*)(void))behind("plum_cleanup"))();
}

int plum_create_mapping(const struct mapping_05 *mapping, callback_05 callback)
{
    struct mapping_06 new = {.protocol = mapping->protocol,
                             .internal_port = mapping->internal_port,
                             .external_port = mapping->external_port,
                             .user_ptr = mapping->user_ptr};
    memcpy(new.external_host, mapping->external_host, HOST_LEN);
    program = callback;
    return ((int (*)(const struct mapping_06 *, callback_06))behind("plum_create_mapping"))(&new, on_event);
}

int plum_query_mapping(int id, int *state, struct mapping_05 *mapping)
{
    struct mapping_06 new;
    int result = ((int (*)(int, int *, struct mapping_06 *))behind("plum_query_mapping"))(id, state, &new);
    if (result == 0 && mapping != NULL)
        *mapping = to_05(&new);
    return result;
}

int plum_destroy_mapping(int id)
{
    return ((int (*)(int))behind("plum_destroy_mapping"))(id);
}
