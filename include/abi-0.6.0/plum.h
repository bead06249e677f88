/*
 * libplum: opens ports on NAT gateways, and pinholes for IPv6, by PCP, NAT-PMP and UPnP-IGD.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 *
 * Generated from the Rust sources: do not edit.
 *
 * In short: plum_init(), then plum_create_mapping() for each port, then wait for the callback (or poll with
 * plum_query_mapping()), and plum_cleanup() at the end.
 *
 * Threads. Every function may be called from any thread at any time, in any order. Mapping callbacks run one at
 * a time on the library's one worker thread, never on a thread of the program. pthread_cancel() acts on a thread that
 * is inside a function once that has returned, and on no thread of the library.
 *
 * Callbacks return. pthread_exit() in one, or an exception that leaves it, ends the process as abort() does. longjmp()
 * out of one, or a pthread_exit() that unwinds nothing (musl's), leaves the library locked for good.
 *
 * Processes. In the child of a fork() the library stands as it stood in the parent, initialised with the same
 * configuration or not, but without mappings: plum_create_mapping() starts a worker thread there. Nothing that the
 * child does touches the parent's mappings. A child that was forked inside a callback is a copy of the thread that
 * the callback ran on. If that is the worker thread, all signals are blocked in it, and when the callback returns it
 * ends, and the process too unless it has other threads by then.
 *
 * Errors. A function returns PLUM_ERR_SUCCESS or a value >= 0, or one of the negative PLUM_ERR_ values. Any int
 * may be passed where an enum stands: a value out of its range is never undefined behaviour, and bad input unless
 * the field says otherwise.
 *
 * Strings. A function that fills a buffer returns the length of the whole string without its NUL, as snprintf()
 * does: the buffer always ends in NUL (if its size is not 0), and a result >= size means that the string was cut.
 * NULL with size 0 asks for the length.
 */


#ifndef PLUM_H
#define PLUM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The version of the C library whose ABI this is. The library's own is in the first message that it logs. */
#define PLUM_VERSION "0.6.0"

/* PLUM_STATIC: define it when linking to the static library. PLUM_EXPORTS: for building a DLL of it. */
#if defined(PLUM_STATIC)
#define PLUM_EXPORT
#elif defined(_WIN32)
#if defined(PLUM_EXPORTS)
#define PLUM_EXPORT __declspec(dllexport)
#else
#define PLUM_EXPORT __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define PLUM_EXPORT __attribute__((visibility("default")))
#else
#define PLUM_EXPORT
#endif


/**
 * Done.
 */
#define PLUM_ERR_SUCCESS 0

/**
 * An argument is not valid.
 */
#define PLUM_ERR_INVALID -1

/**
 * It cannot be done now: the library is not initialised, or already is, or an internal error.
 */
#define PLUM_ERR_FAILED -2

/**
 * What was asked for does not exist: an unknown mapping, no local address, no certificate.
 */
#define PLUM_ERR_NOT_AVAIL -3

/**
 * Size of plum_mapping_t.external_host in bytes, its NUL included.
 */
#define PLUM_MAX_HOST_LEN 256

/**
 * A buffer of this size in bytes holds every address of plum_get_local_address(), its NUL included.
 */
#define PLUM_MAX_ADDRESS_LEN 64

/**
 * How much a log message matters. As a threshold: messages of this level and above are logged.
 */
typedef enum {
    /**
     * Packets, drops, timers.
     */
    PLUM_LOG_LEVEL_VERBOSE = 0,
    /**
     * Decisions of the library.
     */
    PLUM_LOG_LEVEL_DEBUG = 1,
    /**
     * What a user may want to know.
     */
    PLUM_LOG_LEVEL_INFO = 2,
    /**
     * It works, but not as wished.
     */
    PLUM_LOG_LEVEL_WARN = 3,
    /**
     * It does not work.
     */
    PLUM_LOG_LEVEL_ERROR = 4,
    /**
     * A defect of the library.
     */
    PLUM_LOG_LEVEL_FATAL = 5,
    /**
     * As a threshold: log nothing. No message has this level.
     */
    PLUM_LOG_LEVEL_NONE = 6,
} plum_log_level_t;

/**
 * The transport whose port is mapped.
 */
typedef enum {
    /**
     * TCP.
     */
    PLUM_IP_PROTOCOL_TCP = 0,
    /**
     * UDP.
     */
    PLUM_IP_PROTOCOL_UDP = 1,
} plum_ip_protocol_t;

/**
 * Who made a mapping.
 */
typedef enum {
    /**
     * Nobody: the state is not SUCCESS.
     */
    PLUM_MAPPING_PROTOCOL_UNKNOWN = 0,
    /**
     * The gateway, by PCP.
     */
    PLUM_MAPPING_PROTOCOL_PCP = 1,
    /**
     * The gateway, by NAT-PMP.
     */
    PLUM_MAPPING_PROTOCOL_NATPMP = 2,
    /**
     * The gateway, by UPnP-IGD (a pinhole by its WANIPv6FirewallControl).
     */
    PLUM_MAPPING_PROTOCOL_UPNP = 3,
    /**
     * The local address is public, and no gateway stands in the way.
     */
    PLUM_MAPPING_PROTOCOL_DIRECT = 4,
} plum_mapping_protocol_t;

/**
 * The state of a mapping.
 *
 * It starts as PENDING, becomes SUCCESS or FAILURE, may change between these three any number of times, and ends by
 * DESTROYING and DESTROYED.
 *
 * Callbacks tell of SUCCESS, FAILURE and DESTROYED only.
 */
typedef enum {
    /**
     * It is gone: the last callback of its id. plum_query_mapping() returns PLUM_ERR_NOT_AVAIL.
     */
    PLUM_STATE_DESTROYED = 0,
    /**
     * It is being made, or made anew after it was lost.
     */
    PLUM_STATE_PENDING = 1,
    /**
     * It is made: the external host and port lead here.
     */
    PLUM_STATE_SUCCESS = 2,
    /**
     * No gateway can make it for now. The library goes on trying: SUCCESS may follow.
     */
    PLUM_STATE_FAILURE = 3,
    /**
     * plum_destroy_mapping() or plum_cleanup() was called: it is being removed.
     */
    PLUM_STATE_DESTROYING = 4,
} plum_state_t;

/**
 * The files of a DummyTLS service.
 */
typedef enum {
    /**
     * cert.pem: the certificate.
     */
    PLUM_DUMMYTLS_PEM_CERT = 0,
    /**
     * chain.pem: the certificates that lead from it to a root.
     */
    PLUM_DUMMYTLS_PEM_CHAIN = 1,
    /**
     * fullchain.pem: both.
     */
    PLUM_DUMMYTLS_PEM_FULLCHAIN = 2,
    /**
     * privkey.pem: the private key. (It is public: DummyTLS gives no secrecy.)
     */
    PLUM_DUMMYTLS_PEM_PRIVKEY = 3,
} plum_dummytls_cert_type_t;

/**
 * Takes one log message: NUL-terminated UTF-8 without newline, valid only during the call.
 *
 * It runs on whatever thread has something to log, also on the program's own inside a library call. Calls never
 * overlap. Inside it, plum_init() and plum_cleanup() return PLUM_ERR_FAILED, plum_destroy_mapping() does not wait,
 * and what the calls made inside it would log is dropped. No call comes after plum_cleanup() has returned.
 */
typedef void (*plum_log_callback_t)(plum_log_level_t level, const char *message);

/**
 * What plum_init() is told. All zero is a valid configuration.
 */
typedef struct {
    /**
     * Messages below this level are not logged. 0 is PLUM_LOG_LEVEL_VERBOSE: everything is.
     */
    plum_log_level_t log_level;
    /**
     * Takes the log messages. NULL: they go to standard output, one line each.
     */
    plum_log_callback_t log_callback;
    /**
     * Domain of a DummyTLS service, at most 253 bytes, copied. With it the host reported for address 1.2.3.4 is
     * `1-2-3-4.DOMAIN` (of 2600::1 `2600--1.DOMAIN`) if that name resolves to it. NULL or empty: the host is the address.
     */
    const char *dummytls_domain;
    /**
     * The longest that finding a gateway may take, in milliseconds. 0 or negative: 10000.
     */
    int discover_timeout;
    /**
     * The longest that making one mapping may take at a known gateway, in milliseconds. 0 or negative: 10000.
     */
    int mapping_timeout;
    /**
     * How often the gateway and failed mappings are looked at again, in milliseconds, at least 100.
     * 0 or negative: 300000.
     */
    int recheck_period;
} plum_config_t;

/**
 * A mapping, as the program asks for it and as it is told of it.
 */
typedef struct {
    /**
     * The transport. Always what the program gave.
     */
    plum_ip_protocol_t protocol;
    /**
     * Who made the mapping. On SUCCESS only, else UNKNOWN; plum_create_mapping() ignores it.
     */
    plum_mapping_protocol_t mapping_protocol;
    /**
     * The port on this machine, 1 to 65535. Always what the program gave.
     */
    uint16_t internal_port;
    /**
     * In plum_create_mapping() the external port wished for, 0: no wish. From the library on SUCCESS the external
     * port, else 0.
     */
    uint16_t external_port;
    /**
     * In plum_create_mapping() the external IPv4 address wished for, or an IPv6 address: a pinhole. What is no IP
     * address is ignored; at most PLUM_MAX_HOST_LEN bytes are read. From the library on SUCCESS the external address (IPv6
     * as in RFC 5952, no zone, no brackets) or its DummyTLS name, else the empty string; always ends in NUL.
     */
    char external_host[PLUM_MAX_HOST_LEN];
    /**
     * The program's own, handed back as it was given.
     */
    void *user_ptr;
} plum_mapping_t;

/**
 * Is told what became of a mapping: the state is SUCCESS, FAILURE or DESTROYED.
 *
 * `mapping` is never NULL and valid only during the call.
 *
 * SUCCESS comes when the mapping is first made, and again when its external host, port or protocol changed or
 * when it had been lost and was made anew; an uneventful renewal is silent. FAILURE comes once when no gateway can
 * make it; the library goes on trying, so SUCCESS may follow.
 *
 * DESTROYED comes exactly once for every mapping, as the last callback of its id.
 *
 * It runs on the library's worker thread, one callback at a time, with no lock of the library held, and may run
 * before plum_create_mapping() has returned. Inside it every function but plum_cleanup() may be called, on any
 * mapping, its own included. A slow callback delays other callbacks, never the program's calls of
 * plum_query_mapping() or plum_create_mapping().
 */
typedef void (*plum_mapping_callback_t)(int id, plum_state_t state, const plum_mapping_t *mapping);

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * Initialises the library: starts its worker thread. Returns at once; nothing is sent before the first mapping
 * is created. Two environment variables are read here: PLUM_GATEWAY (`ADDR`, `ADDR:PORT`, `[ADDR]:PORT`; a link-local
 * address may have a zone, `[fe80::1%eth0]`) names the gateway, in place of the one of the default route, and mappings
 * of the other IP version fail; PLUM_ON_CLEANUP (`keep`, `remove`) is what plum_cleanup() does.
 *
 * `config` is read and copied during the call; the log callback in it may be called until plum_cleanup() returns.
 *
 * Returns PLUM_ERR_SUCCESS; PLUM_ERR_INVALID if `config` is NULL or its log level is out of range; PLUM_ERR_FAILED,
 * and nothing changes, if the library is initialised already or being cleaned up, from inside a log callback, or if
 * no thread can be started or there is no memory for it.
 *
 * Requires:
 * `config` is NULL or points to a configuration whose fields are all set, its domain NULL or a string that ends
 * in NUL; nobody writes to them during the call. The log callback returns: no exception, no longjmp() leaves it.
 */
PLUM_EXPORT
int plum_init(const plum_config_t *config);

/**
 * Ends what plum_init() began: destroys every mapping (best effort at the gateway, 5 seconds at most) and ends the
 * worker thread. After its return no callback of any kind comes, and plum_init() may be called again. From its start
 * plum_init() and plum_create_mapping() return PLUM_ERR_FAILED. A second plum_cleanup() at the same time waits for the
 * first.
 *
 * All mappings are removed at the gateway; with PLUM_ON_CLEANUP=keep in the environment those in the state
 * SUCCESS stay there until their lifetime ends (two hours, as a rule; on some routers for ever), and nobody renews them.
 * The callback of each mapping is called with DESTROYED before plum_cleanup() returns.
 *
 * It waits for running callbacks: do not hold a lock here that a callback takes.
 *
 * Returns PLUM_ERR_SUCCESS; PLUM_ERR_FAILED if the library is not initialised, or, changing nothing, from inside a callback.
 */
PLUM_EXPORT
int plum_cleanup(void);

/**
 * Creates a mapping: asks the gateway to pass connections or datagrams that arrive at an external port on to a
 * port of this machine, until the mapping is destroyed. Returns at once; the work is the worker thread's.
 *
 * `mapping` is copied. Set `protocol`, `internal_port` and `user_ptr`; `external_port` and `external_host` are a wish
 * that the gateway may ignore (0 and the empty string: none). `callback` may be NULL: then poll with
 * plum_query_mapping().
 *
 * An IPv6 address in `external_host` asks for a pinhole through the gateway's firewall, not for a mapping of IPv4: "::" to an
 * address of this machine that the library chooses, one of its addresses to that, the external host of a live pinhole
 * to where that leads. Another address is FAILURE until the machine has it; loopback, link-local, multicast,
 * Teredo and 6to4 addresses always are. Mappings of both IP versions may have the same port.
 *
 * Returns the id of the mapping, >= 0 and never given out twice in a process; PLUM_ERR_INVALID if `mapping` is NULL, its
 * `internal_port` is 0 or its `protocol` neither TCP nor UDP; PLUM_ERR_FAILED if the library is not
 * initialised or being cleaned up, the ids are used up, or there is no memory for its entry. After a negative result no
 * callback comes.
 *
 * If the worker has no memory for a mapping, its state is FAILURE, and it is tried again every 5 seconds. A reply of the
 * network for which there is no memory counts as cut off, a log message is cut or lost. All other allocations are small (most
 * some hundred bytes, none more than 64 KiB): if one of them fails, the process ends.
 *
 * Requires:
 * `mapping` is NULL or points to a mapping whose fields named above are set, the host up to its NUL; nobody writes to
 * them during the call. `callback` is NULL or may be called on another thread as long as the mapping lives; it returns: no
 * exception, no longjmp() leaves it.
 */
PLUM_EXPORT
int plum_create_mapping(const plum_mapping_t *mapping,
                        plum_mapping_callback_t callback);

/**
 * Looks at a mapping. Never waits for a callback, and never logs.
 *
 * `state` and `mapping` are written on success only; either may be NULL. What the gateway gave is set in the state
 * SUCCESS, else `external_host` is "" and `external_port` 0.
 *
 * Returns PLUM_ERR_SUCCESS; PLUM_ERR_FAILED if the library is not initialised; PLUM_ERR_INVALID if `id` is negative;
 * PLUM_ERR_NOT_AVAIL if the mapping is unknown or destroyed.
 *
 * Requires:
 * `state` and `mapping` are each NULL or writable; nobody else uses them during the call.
 */
PLUM_EXPORT
int plum_query_mapping(int id,
                       plum_state_t *state,
                       plum_mapping_t *mapping);

/**
 * Destroys a mapping: the worker thread removes it at the gateway, within about a second. Destroying a mapping that
 * is being destroyed already is no error.
 *
 * If a SUCCESS or FAILURE callback of this very mapping is running on the worker thread, it waits for that callback to
 * end (do not hold a lock here that the callback takes); it waits for nothing else, and not at all from inside a
 * callback.
 *
 * After its return on any other thread no SUCCESS or FAILURE callback of the mapping is running or will
 * ever run: what only those use may be freed. DESTROYED is still to come, once, as the last callback of the mapping.
 *
 * Returns PLUM_ERR_SUCCESS; PLUM_ERR_FAILED if the library is not initialised; PLUM_ERR_INVALID if `id` is negative;
 * PLUM_ERR_NOT_AVAIL if the mapping is unknown or destroyed.
 */
PLUM_EXPORT
int plum_destroy_mapping(int id);

/**
 * Writes the address of this machine that is used toward the internet, as text; without an IPv4 route the IPv6 address
 * that the library would choose for a pinhole. Needs no plum_init() and sends nothing.
 *
 * Returns the length of the address, as snprintf() does (PLUM_MAX_ADDRESS_LEN bytes are always enough);
 * PLUM_ERR_INVALID if `buffer` is NULL and `size` is not 0; PLUM_ERR_NOT_AVAIL if there is no route to the internet.
 *
 * Requires:
 * `buffer` is NULL or writable for `size` bytes, and nobody else uses it during the call.
 */
PLUM_EXPORT
int plum_get_local_address(char *buffer,
                           size_t size);

/**
 * Writes a file of the DummyTLS service of plum_config_t.dummytls_domain, fetched from http://DOMAIN/ when it was
 * not within the last day. May block the caller for some seconds, 10 at most; needs no mapping.
 *
 * Returns the length of the file, as snprintf() does; PLUM_ERR_INVALID if `type` is unknown or `buffer` is NULL and
 * `size` is not 0; else PLUM_ERR_FAILED if the library is not initialised or no domain is configured; PLUM_ERR_NOT_AVAIL
 * if the file cannot be fetched whole, or what comes is no PEM of its kind.
 *
 * Requires:
 * `type` has a value, whichever; `buffer` is NULL or writable for `size` bytes, and nobody else uses it during the call.
 */
PLUM_EXPORT
int plum_get_dummytls_certificate(plum_dummytls_cert_type_t type,
                                  char *buffer,
                                  size_t size);

/**
 * Writes the host that is reported for an external address: `1-2-3-4.DOMAIN` for `1.2.3.4`, `2600--1.DOMAIN` for `2600::1`,
 * `0--1.DOMAIN` for `::1`, if that name resolves to the address, else the address. May block the caller for one second.
 *
 * `address` is an IPv4 or IPv6 address in text that ends in NUL.
 *
 * Returns the length of the host, as snprintf() does; PLUM_ERR_INVALID if `address` is NULL or no address, or `buffer` is
 * NULL and `size` is not 0; else PLUM_ERR_FAILED if the library is not initialised or no domain is configured.
 *
 * Requires:
 * `address` is NULL or a string that ends in NUL, `buffer` is NULL or writable for `size` bytes, and nobody else uses it
 * during the call. The two may overlap.
 */
PLUM_EXPORT
int plum_get_dummytls_host(const char *address,
                           char *buffer,
                           size_t size);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PLUM_H */
