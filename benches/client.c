/* The program under measurement: an ordinary libplum program that loads the library of its first argument, steered by
 * lines on standard input.
 *
 *     client LIBRARY [auto|0.5|0.6]
 *
 *     init                           plum_init, all protocols, nothing logged
 *     create COUNT FIRST_PORT        COUNT mappings (TCP) of successive internal ports
 *     wait STATE COUNT MSECS         until COUNT mappings have had a callback of STATE: success, failure or destroyed
 *     destroy                        plum_destroy_mapping for all that were created
 *     cleanup                        plum_cleanup
 *     report                         how many mappings are where, by which protocol
 *     ports                          internal port, external port and protocol of each mapping that is made
 *     rest SETTLE_SECS SECS          does nothing, and says what the library did meanwhile
 *     memory                         what is resident, now and at most
 *     queries THREADS SECS           calls plum_query_mapping from many threads, while mappings come and go
 *     creates THREADS COUNT_EACH     calls plum_create_mapping from many threads
 *
 * Every line is answered by one line that begins with the same word. Times are microseconds of CLOCK_MONOTONIC, taken
 * next to the call or inside the callback.
 *
 * The library is loaded at run time, so that one program measures every version: the structs of 0.5 are shorter than
 * those of 0.6 (plum_config_t ends after dummytls_domain, plum_mapping_t has no mapping_protocol). Which of the two it
 * is, its SONAME says, unless the command line does. */

#define _GNU_SOURCE

#include <dirent.h>
#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* --- the ABI, written out here because the header of only one version can be included --- */

enum { STATE_DESTROYED, STATE_PENDING, STATE_SUCCESS, STATE_FAILURE, STATE_DESTROYING, STATES };
enum { PROTOCOL_UNKNOWN, PROTOCOL_PCP, PROTOCOL_NATPMP, PROTOCOL_UPNP, PROTOCOL_DIRECT, PROTOCOLS };
enum { TCP, UDP };
enum { LOG_NONE = 6, HOST_LEN = 256 };

/* 0.5 ends after dummytls_domain: it reads no further. */
struct config {
    int log_level;
    void (*log_callback)(int, const char *);
    const char *dummytls_domain;
    int discover_timeout;
    int mapping_timeout;
    int recheck_period;
    int protocol;
};

struct mapping_05 {
    int protocol;
    uint16_t internal_port, external_port;
    char external_host[HOST_LEN];
    void *user_ptr;
};

struct mapping_06 {
    int protocol;
    int mapping_protocol;
    uint16_t internal_port, external_port;
    char external_host[HOST_LEN];
    void *user_ptr;
};

union mapping {
    struct mapping_05 v05;
    struct mapping_06 v06;
};

typedef void (*mapping_callback)(int id, int state, const union mapping *);

static struct {
    int (*init)(const struct config *);
    int (*cleanup)(void);
    int (*create_mapping)(const union mapping *, mapping_callback);
    int (*query_mapping)(int id, int *state, union mapping *);
    int (*destroy_mapping)(int id);
} plum;

static int is_05;

/* --- what became of the mappings --- */

enum { MAPPINGS_MAX = 1 << 20 };

static struct record {
    int id;
    uint16_t internal_port, external_port;
    uint8_t is_udp, state, protocol, seen; /* seen: a bit a state */
} *records; /* zero pages: only what is used is resident */

static atomic_int created;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
/* Under the lock: how many mappings have had a callback of each state, when the first and the latest of them came,
 * and what should not be. */
static int reached[STATES];
static long long first_at[STATES], last_at[STATES];
static int doubled;

static long long now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void on_event(int id, int state, const union mapping *mapping)
{
    long long at = now_us();
    void *user = is_05 ? mapping->v05.user_ptr : mapping->v06.user_ptr;
    struct record *record = &records[(uintptr_t)user];
    (void)id;
    if (state < 0 || state >= STATES)
        return;
    pthread_mutex_lock(&lock);
    if (record->seen & 1 << STATE_DESTROYED)
        doubled++; /* nothing may follow DESTROYED */
    if (!(record->seen & 1 << state)) {
        record->seen |= 1 << state;
        if (reached[state]++ == 0)
            first_at[state] = at;
        last_at[state] = at;
        pthread_cond_signal(&changed);
    }
    record->state = state;
    record->external_port = is_05 ? mapping->v05.external_port : mapping->v06.external_port;
    record->protocol = is_05 ? PROTOCOL_UNKNOWN : mapping->v06.mapping_protocol;
    pthread_mutex_unlock(&lock);
}

/* Creates the mapping of the next record; its id, or the error. */
static int create(uint16_t internal_port, int is_udp)
{
    uintptr_t index = atomic_fetch_add_explicit(&created, 1, memory_order_relaxed);
    union mapping mapping;
    if (index >= MAPPINGS_MAX)
        abort();
    memset(&mapping, 0, sizeof mapping);
    if (is_05) {
        mapping.v05.protocol = is_udp ? UDP : TCP;
        mapping.v05.internal_port = internal_port;
        mapping.v05.user_ptr = (void *)index;
    } else {
        mapping.v06.protocol = is_udp ? UDP : TCP;
        mapping.v06.internal_port = internal_port;
        mapping.v06.user_ptr = (void *)index;
    }
    records[index].internal_port = internal_port;
    records[index].is_udp = is_udp;
    return records[index].id = plum.create_mapping(&mapping, on_event);
}

/* --- the commands --- */

static void do_init(void)
{
    struct config config;
    memset(&config, 0, sizeof config);
    config.log_level = LOG_NONE;
    long long at = now_us();
    int result = plum.init(&config);
    printf("init %d %lld %lld\n", result, at, now_us());
}

static void do_create(int count, int first_port)
{
    int failed = 0;
    long long at = now_us();
    for (int i = 0; i < count; i++)
        failed += create((uint16_t)(first_port + i), 0) < 0;
    printf("create %d %lld %lld\n", failed, at, now_us());
}

static void do_wait(const char *name, int count, int msecs)
{
    int state = strcmp(name, "success") == 0 ? STATE_SUCCESS : strcmp(name, "failure") == 0 ? STATE_FAILURE : STATE_DESTROYED;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += msecs / 1000;
    until.tv_nsec += msecs % 1000 * 1000000L;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&lock);
    while (reached[state] < count && pthread_cond_timedwait(&changed, &lock, &until) == 0) {
    }
    printf("wait %d %lld %lld\n", reached[state], first_at[state], last_at[state]);
    pthread_mutex_unlock(&lock);
}

static void do_destroy(void)
{
    int failed = 0, count = atomic_load(&created);
    long long at = now_us();
    for (int i = 0; i < count; i++)
        failed += plum.destroy_mapping(records[i].id) != 0;
    printf("destroy %d %lld %lld\n", failed, at, now_us());
}

static void do_cleanup(void)
{
    long long at = now_us();
    int result = plum.cleanup();
    printf("cleanup %d %lld %lld\n", result, at, now_us());
}

static void do_report(void)
{
    int states[STATES] = {0}, protocols[PROTOCOLS] = {0}, count = atomic_load(&created);
    pthread_mutex_lock(&lock);
    for (int i = 0; i < count; i++) {
        states[records[i].seen ? records[i].state : STATE_PENDING]++;
        if (records[i].seen && records[i].state == STATE_SUCCESS && records[i].protocol < PROTOCOLS)
            protocols[records[i].protocol]++;
    }
    printf("report created=%d pending=%d success=%d failure=%d destroyed=%d doubled=%d unknown=%d pcp=%d natpmp=%d "
           "upnp=%d direct=%d\n",
           count, states[STATE_PENDING], states[STATE_SUCCESS], states[STATE_FAILURE], states[STATE_DESTROYED], doubled,
           protocols[PROTOCOL_UNKNOWN], protocols[PROTOCOL_PCP], protocols[PROTOCOL_NATPMP], protocols[PROTOCOL_UPNP],
           protocols[PROTOCOL_DIRECT]);
    pthread_mutex_unlock(&lock);
}

static void do_ports(void)
{
    int count = atomic_load(&created);
    pthread_mutex_lock(&lock);
    printf("ports");
    for (int i = 0; i < count; i++)
        if (records[i].seen && records[i].state == STATE_SUCCESS)
            printf(" %s/%d/%d", records[i].is_udp ? "udp" : "tcp", records[i].internal_port, records[i].external_port);
    printf("\n");
    pthread_mutex_unlock(&lock);
}

/* The number after `name` in a status file of /proc; -1: not there. */
static long long status_number(const char *path, const char *name)
{
    char line[256];
    long long number = -1;
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return -1;
    while (fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            sscanf(line + strlen(name), " %lld", &number);
    fclose(file);
    return number;
}

/* How often the threads of the library were woken: every thread but this one, the program's only own. */
static long long wakeups(void)
{
    long long sum = 0;
    char own[32];
    struct dirent *entry;
    DIR *tasks = opendir("/proc/self/task");
    if (tasks == NULL)
        return -1;
    snprintf(own, sizeof own, "%d", (int)getpid());
    while ((entry = readdir(tasks)) != NULL) {
        char path[300];
        long long number;
        if (entry->d_name[0] == '.' || strcmp(entry->d_name, own) == 0)
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
        number = status_number(path, "voluntary_ctxt_switches:");
        if (number > 0)
            sum += number;
    }
    closedir(tasks);
    return sum;
}

static long long cpu_us(clockid_t clock)
{
    struct timespec spent;
    clock_gettime(clock, &spent);
    return (long long)spent.tv_sec * 1000000 + spent.tv_nsec / 1000;
}

/* What all threads but this one have used of the processors. */
static long long library_cpu_us(void)
{
    long long own = cpu_us(CLOCK_THREAD_CPUTIME_ID);
    return cpu_us(CLOCK_PROCESS_CPUTIME_ID) - own;
}

static void sleep_us(long long microseconds)
{
    struct timespec span = {.tv_sec = microseconds / 1000000, .tv_nsec = microseconds % 1000000 * 1000};
    while (clock_nanosleep(CLOCK_MONOTONIC, 0, &span, &span) != 0) {
    }
}

static void do_rest(int settle_secs, int secs)
{
    sleep_us(settle_secs * 1000000LL);
    long long wakeups_before = wakeups(), cpu_before = library_cpu_us();
    sleep_us(secs * 1000000LL);
    long long cpu = library_cpu_us() - cpu_before, woken = wakeups() - wakeups_before;
    /* The two clocks are not read at one moment: some microseconds either way. */
    printf("rest %lld %lld %lld\n", cpu > 0 ? cpu : 0, woken, status_number("/proc/self/status", "VmRSS:"));
}

static void do_memory(void)
{
    const char *status = "/proc/self/status";
    printf("memory %lld %lld\n", status_number(status, "VmRSS:"), status_number(status, "VmHWM:"));
}

/* --- many threads --- */

enum { THREADS_MAX = 64 };

struct caller {
    pthread_t thread;
    long long calls, failed;
    int count, number;
};

static atomic_int stop;
static pthread_barrier_t start;

static void *query_on(void *argument)
{
    struct caller *caller = argument;
    unsigned random = (unsigned)caller->number * 2654435761u + 1;
    pthread_barrier_wait(&start);
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        union mapping mapping;
        int state;
        random = random * 1664525u + 1013904223u;
        if (plum.query_mapping(records[(random >> 8) % (unsigned)caller->count].id, &state, &mapping) != 0)
            caller->failed++;
        caller->calls++;
    }
    return NULL;
}

static int begin(struct caller *callers, int threads, void *(*body)(void *), int count)
{
    if (threads < 1 || threads > THREADS_MAX)
        return -1;
    pthread_barrier_init(&start, NULL, (unsigned)threads + 1);
    atomic_store(&stop, 0);
    for (int i = 0; i < threads; i++) {
        callers[i] = (struct caller){.count = count, .number = i};
        if (pthread_create(&callers[i].thread, NULL, body, &callers[i]) != 0)
            return -1;
    }
    pthread_barrier_wait(&start);
    return 0;
}

/* The threads ask about the mappings there are, while this one keeps the worker busy: each millisecond two mappings more are
 * made, and two that were made so are destroyed 200 ms later. */
static void do_queries(int threads, int secs)
{
    enum { EACH = 2, KEPT = 400, FIRST_PORT = 40000, PORTS = 20000 };
    static int ring[KEPT];
    struct caller callers[THREADS_MAX];
    int turn = 0, count = atomic_load(&created);
    long long calls = 0, failed = 0;
    if (count == 0 || begin(callers, threads, query_on, count) != 0) {
        printf("queries -1\n");
        return;
    }
    long long at = now_us(), until = at + secs * 1000000LL;
    while (now_us() < until) {
        for (int i = 0; i < EACH; i++, turn++) {
            if (turn >= KEPT)
                plum.destroy_mapping(ring[turn % KEPT]);
            ring[turn % KEPT] = create((uint16_t)(FIRST_PORT + turn % PORTS), 0);
        }
        sleep_us(1000);
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < threads; i++) {
        pthread_join(callers[i].thread, NULL);
        calls += callers[i].calls;
        failed += callers[i].failed;
    }
    printf("queries %lld %lld %lld\n", failed, calls, now_us() - at);
}

static void *create_on(void *argument)
{
    struct caller *caller = argument;
    pthread_barrier_wait(&start);
    for (int i = 0; i < caller->count; i++) {
        int number = caller->number * caller->count + i;
        if (create((uint16_t)(1 + number % 65535), number / 65535 % 2) < 0)
            caller->failed++;
        caller->calls++;
    }
    return NULL;
}

static void do_creates(int threads, int count_each)
{
    struct caller callers[THREADS_MAX];
    long long calls = 0, failed = 0;
    if (begin(callers, threads, create_on, count_each) != 0) {
        printf("creates -1\n");
        return;
    }
    long long at = now_us();
    for (int i = 0; i < threads; i++) {
        pthread_join(callers[i].thread, NULL);
        calls += callers[i].calls;
        failed += callers[i].failed;
    }
    printf("creates %lld %lld %lld\n", failed, calls, now_us() - at);
}

/* --- loading --- */

/* What the library calls itself; "" if it does not. */
static const char *soname(void *library)
{
    struct link_map *map;
    const char *strings = NULL;
    size_t offset = 0;
    if (dlinfo(library, RTLD_DI_LINKMAP, &map) != 0)
        return "";
    for (const ElfW(Dyn) *entry = map->l_ld; entry->d_tag != DT_NULL; entry++) {
        if (entry->d_tag == DT_STRTAB)
            strings = (const char *)entry->d_un.d_ptr;
        else if (entry->d_tag == DT_SONAME)
            offset = entry->d_un.d_val;
    }
    return strings != NULL && offset != 0 ? strings + offset : "";
}

static void *symbol(void *library, const char *name)
{
    void *found = dlsym(library, name);
    if (found == NULL) {
        fprintf(stderr, "client: %s\n", dlerror());
        exit(2);
    }
    return found;
}

static void load(const char *path, const char *abi)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        fprintf(stderr, "client: %s\n", dlerror());
        exit(2);
    }
    const char *name = soname(library);
    if (strcmp(abi, "auto") == 0)
        is_05 = strncmp(name, "libplum.so.0.5", strlen("libplum.so.0.5")) == 0;
    else
        is_05 = strcmp(abi, "0.5") == 0;
    *(void **)&plum.init = symbol(library, "plum_init");
    *(void **)&plum.cleanup = symbol(library, "plum_cleanup");
    *(void **)&plum.create_mapping = symbol(library, "plum_create_mapping");
    *(void **)&plum.query_mapping = symbol(library, "plum_query_mapping");
    *(void **)&plum.destroy_mapping = symbol(library, "plum_destroy_mapping");
    printf("ready %s %s\n", *name ? name : "-", is_05 ? "0.5" : "0.6");
}

int main(int argc, char **argv)
{
    char line[256];
    pthread_condattr_t attributes;
    if (argc < 2 || argc > 3 || (argc == 3 && !strstr("auto 0.5 0.6", argv[2]))) {
        fprintf(stderr, "usage: client LIBRARY [auto|0.5|0.6]\n");
        return 2;
    }
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&changed, &attributes);
    records = calloc(MAPPINGS_MAX, sizeof *records);
    if (records == NULL)
        return 2;
    setvbuf(stdout, NULL, _IOLBF, 0);
    load(argv[1], argc == 3 ? argv[2] : "auto");
    while (fgets(line, sizeof line, stdin) != NULL) {
        char command[32] = "", word[32] = "";
        int a = 0, b = 0;
        sscanf(line, "%31s %d %d", command, &a, &b);
        if (strcmp(command, "init") == 0)
            do_init();
        else if (strcmp(command, "create") == 0)
            do_create(a, b);
        else if (strcmp(command, "wait") == 0 && sscanf(line, "wait %31s %d %d", word, &a, &b) == 3)
            do_wait(word, a, b);
        else if (strcmp(command, "destroy") == 0)
            do_destroy();
        else if (strcmp(command, "cleanup") == 0)
            do_cleanup();
        else if (strcmp(command, "report") == 0)
            do_report();
        else if (strcmp(command, "ports") == 0)
            do_ports();
        else if (strcmp(command, "rest") == 0)
            do_rest(a, b);
        else if (strcmp(command, "memory") == 0)
            do_memory();
        else if (strcmp(command, "queries") == 0)
            do_queries(a, b);
        else if (strcmp(command, "creates") == 0)
            do_creates(a, b);
        else {
            fprintf(stderr, "client: unknown command: %s", line);
            return 2;
        }
    }
    return 0;
}
