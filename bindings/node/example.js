// Maps a TCP port until Enter is pressed: node example.js [PORT]
'use strict';

const { once } = require('node:events');
const { Session } = require('./plum');

async function main() {
  const port = Number(process.argv[2] ?? 8000);
  const session = new Session();
  try {
    const mapping = session.map('tcp', port);
    const external = await mapping.ready();
    console.log(`port ${port} is reachable at ${external.host}:${external.port} by ${external.protocol}`);
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
