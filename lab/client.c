/* The program under test in the lab: an ordinary libplum program, steered by lines on standard input.
 *
 *     init [protocol=any|pcp|upnp] [discover=MSECS] [mapping=MSECS] [recheck=MSECS]
 *     create tcp|udp INTERNAL_PORT [SUGGESTED_PORT [HOST]]
 *     query ID
 *     destroy ID
 *     local
 *     cleanup
 *
 * Every line is answered by one that begins with the same word; callbacks come in between, as lines that begin with
 * "event". Times are microseconds of CLOCK_MONOTONIC, taken next to the call or the callback itself. The library's
 * log goes to standard error. */

#include <plum/plum.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static long long now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static const char *state_name(plum_state_t state)
{
    switch (state) {
    case PLUM_STATE_DESTROYED: return "DESTROYED";
    case PLUM_STATE_PENDING: return "PENDING";
    case PLUM_STATE_SUCCESS: return "SUCCESS";
    case PLUM_STATE_FAILURE: return "FAILURE";
    case PLUM_STATE_DESTROYING: return "DESTROYING";
    }
    return "?";
}

static const char *protocol_name(plum_mapping_protocol_t protocol)
{
    switch (protocol) {
    case PLUM_MAPPING_PROTOCOL_UNKNOWN: return "UNKNOWN";
    case PLUM_MAPPING_PROTOCOL_PCP: return "PCP";
    case PLUM_MAPPING_PROTOCOL_NATPMP: return "NATPMP";
    case PLUM_MAPPING_PROTOCOL_UPNP: return "UPNP";
    case PLUM_MAPPING_PROTOCOL_DIRECT: return "DIRECT";
    }
    return "?";
}

/* "-" stands for an empty host. */
static const char *host_or_dash(const plum_mapping_t *mapping)
{
    return mapping->external_host[0] ? mapping->external_host : "-";
}

static void on_event(int id, plum_state_t state, const plum_mapping_t *mapping)
{
    long long at = now_us();
    printf("event %d %s %s %s %d %lld\n", id, state_name(state), protocol_name(mapping->mapping_protocol),
           host_or_dash(mapping), (int)mapping->external_port, at);
}

static void on_log(plum_log_level_t level, const char *message)
{
    static const char *const names[] = {"VERBOSE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"};
    long long at = now_us();
    fprintf(stderr, "%lld.%06lld %s %s\n", at / 1000000, at % 1000000, names[level], message);
}

static void do_init(char *settings)
{
    plum_config_t config;
    memset(&config, 0, sizeof config);
    config.log_level = PLUM_LOG_LEVEL_VERBOSE;
    config.log_callback = on_log;
    for (char *word = strtok(settings, " "); word != NULL; word = strtok(NULL, " ")) {
        if (strcmp(word, "protocol=pcp") == 0)
            config.protocol = PLUM_PROTOCOL_PCP;
        else if (strcmp(word, "protocol=upnp") == 0)
            config.protocol = PLUM_PROTOCOL_UPNP;
        else if (strncmp(word, "discover=", 9) == 0)
            config.discover_timeout = atoi(word + 9);
        else if (strncmp(word, "mapping=", 8) == 0)
            config.mapping_timeout = atoi(word + 8);
        else if (strncmp(word, "recheck=", 8) == 0)
            config.recheck_period = atoi(word + 8);
    }
    printf("init %d\n", plum_init(&config));
}

static void do_create(const char *arguments)
{
    char transport[4] = "";
    int internal_port = 0, suggested_port = 0;
    plum_mapping_t mapping;
    memset(&mapping, 0, sizeof mapping);
    sscanf(arguments, "%3s %d %d %63s", transport, &internal_port, &suggested_port, mapping.external_host);
    mapping.protocol = strcmp(transport, "udp") == 0 ? PLUM_IP_PROTOCOL_UDP : PLUM_IP_PROTOCOL_TCP;
    mapping.internal_port = (uint16_t)internal_port;
    mapping.external_port = (uint16_t)suggested_port;
    long long at = now_us();
    int id = plum_create_mapping(&mapping, on_event);
    printf("create %d %lld %lld\n", id, at, now_us());
}

static void do_query(int id)
{
    plum_state_t state = PLUM_STATE_DESTROYED;
    plum_mapping_t mapping;
    memset(&mapping, 0, sizeof mapping);
    int result = plum_query_mapping(id, &state, &mapping);
    printf("query %d %s %s %s %d\n", result, state_name(state), protocol_name(mapping.mapping_protocol),
           host_or_dash(&mapping), (int)mapping.external_port);
}

int main(void)
{
    char line[256];
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        char *arguments = strchr(line, ' ');
        if (arguments != NULL)
            *arguments++ = '\0';
        else
            arguments = line + strlen(line);
        if (strcmp(line, "init") == 0) {
            do_init(arguments);
        } else if (strcmp(line, "create") == 0) {
            do_create(arguments);
        } else if (strcmp(line, "query") == 0) {
            do_query(atoi(arguments));
        } else if (strcmp(line, "destroy") == 0) {
            printf("destroy %d\n", plum_destroy_mapping(atoi(arguments)));
        } else if (strcmp(line, "local") == 0) {
            char address[PLUM_MAX_ADDRESS_LEN] = "-";
            int result = plum_get_local_address(address, sizeof address);
            printf("local %d %s\n", result, address);
        } else if (strcmp(line, "cleanup") == 0) {
            long long at = now_us();
            int result = plum_cleanup();
            printf("cleanup %d %lld %lld\n", result, at, now_us());
        } else {
            fprintf(stderr, "unknown command: %s\n", line);
            return 2;
        }
    }
    return 0;
}
