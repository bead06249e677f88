// Maps a TCP port until Enter is pressed: node example.js [PORT]
// With --ipv6 it opens a pinhole for IPv6, to an address of this machine that is chosen or to --ipv6=ADDRESS.
'use strict';

const { once } = require('node:events');
const { Session } = require('./plum');

async function main() {
  const words = process.argv.slice(2);
  const option = words.find((word) => /^--ipv6(=|$)/.test(word));
  const port = Number(words.find((word) => word !== option) ?? 8000);
  const ipv6 = option?.split('=')[1] ?? option !== undefined;
  const session = new Session();
  try {
    const mapping = session.map('tcp', port, 0, { ipv6 });
    const external = await mapping.ready();
    const host = external.host.includes(':') ? `[${external.host}]` : external.host;
    console.log(`port ${port} is reachable at ${host}:${external.port} by ${external.protocol}`);
    process.stdin.resume();
    await Promise.race([once(process.stdin, 'data'), once(process.stdin, 'end')]);
    process.stdin.pause();
    await mapping.destroy();
  } finally {
    await session.close();
  }
  console.log('removed');
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
