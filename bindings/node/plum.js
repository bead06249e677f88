// libplum from Node.js: opens ports on the gateway of this network.
//
//     const { Session } = require('./plum');
//     const session = new Session();
//     const mapping = session.map('tcp', 8080);
//     const { host, port } = await mapping.ready();
//     ...
//     await session.close();
'use strict';

const { EventEmitter } = require('node:events');
const { isIPv6 } = require('node:net');
const addon = require(process.env.PLUM_ADDON || './plum.node');

const LOG_LEVELS = { verbose: 0, debug: 1, info: 2, warn: 3, error: 4, fatal: 5, none: 6 };
const PROTOCOLS = { any: 0, pcp: 1, upnp: 2 };
const TRANSPORTS = { tcp: 0, udp: 1 };
const EVENTS = { 0: 'destroyed', 2: 'success', 3: 'failure' };
const MEANINGS = { '-1': 'invalid argument', '-2': 'not initialised, or already initialised', '-3': 'not available' };

function checked(call, result) {
  if (result < 0) throw new Error(`${call}: ${MEANINGS[result] ?? result}`);
  return result;
}

function number(names, name) {
  if (!(name in names)) throw new RangeError(`${name}: one of ${Object.keys(names).join(', ')} is wanted`);
  return names[name];
}

function port(value, least) {
  if (!Number.isInteger(value) || value < least || value > 65535) {
    throw new RangeError(`${value}: a port is a whole number from ${least} to 65535`);
  }
  return value;
}

/** What the library is told of IPv6, as the wish for a host. */
function hostOf(ipv6) {
  if (ipv6 === false) return '';
  if (ipv6 === true) return '::';
  // An IPv4 address in that form would ask for a mapping of IPv4.
  if (!isIPv6(ipv6) || /%|^::ffff:/i.test(ipv6)) {
    throw new RangeError(`${ipv6}: an IPv6 address of this machine is wanted, without a zone`);
  }
  return ipv6;
}

/** A port that is mapped until `destroy`, or the end of its session. Emits success ({host, port, protocol}), failure, destroyed. */
class Mapping extends EventEmitter {
  constructor(transport, internalPort, externalPort, ipv6) {
    super();
    this.state = 'pending';
    this.external = null;
    this.id = checked(
      'plum_create_mapping',
      addon.create(
        number(TRANSPORTS, transport),
        port(internalPort, 1),
        port(externalPort, 0),
        hostOf(ipv6),
        (state, host, externalPort, protocol) => {
          this.state = EVENTS[state];
          this.external = this.state === 'success' ? { host, port: externalPort, protocol } : null;
          this.emit(this.state, this.external);
        },
      ),
    );
  }

  /** Resolves to {host, port, protocol} once the mapping is made; rejects when no gateway can make it for now. */
  ready() {
    return new Promise((resolve, reject) => {
      const decide = () => {
        if (this.state === 'success') resolve(this.external);
        else if (this.state === 'failure') reject(new Error('no gateway can map the port for now'));
        else if (this.state === 'destroyed') reject(new Error('the mapping was destroyed'));
        else return false;
        return true;
      };
      if (decide()) return;
      const decideOnce = () => {
        for (const event of Object.values(EVENTS)) this.off(event, decideOnce);
        decide();
      };
      for (const event of Object.values(EVENTS)) this.on(event, decideOnce);
    });
  }

  /** Removes the mapping from the gateway; resolves when it is gone. */
  destroy() {
    return new Promise((resolve) => {
      if (this.state === 'destroyed') return resolve();
      this.once('destroyed', () => resolve());
      addon.destroy(this.id);
    });
  }
}

/** The library, initialised; one at a time in a process. Times are milliseconds, 0 is the default. A live mapping keeps Node.js alive. */
class Session {
  constructor({ logLevel = 'warn', protocols = 'any', discoverTimeout = 0, mappingTimeout = 0, recheckPeriod = 0 } = {}) {
    const level = number(LOG_LEVELS, logLevel);
    checked('plum_init', addon.init(level, number(PROTOCOLS, protocols), discoverTimeout, mappingTimeout, recheckPeriod));
  }

  /**
   * Asks for a mapping of 'tcp' or 'udp'; returns at once. `ipv6: true` asks for a pinhole for IPv6 in place of a mapping of
   * IPv4, to an address of this machine that is chosen; `ipv6: '2600::17'` to that one.
   */
  map(transport, internalPort, externalPort = 0, { ipv6 = false } = {}) {
    return new Mapping(transport, internalPort, externalPort, ipv6);
  }

  /** Removes every mapping and ends the library's thread. */
  async close() {
    checked('plum_cleanup', await addon.cleanup());
  }
}

/** The address of this machine toward the internet; null without a route there. */
const localAddress = () => addon.localAddress();

module.exports = { Mapping, Session, localAddress };
