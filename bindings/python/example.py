#!/usr/bin/env python3
"""Maps a TCP port until Enter is pressed: example.py [PORT]"""

import sys

import plum


def main() -> int:
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    with plum.Session() as session, session.map("tcp", port) as mapping:
        try:
            external = mapping.wait(timeout=15)
        except (plum.Failed, TimeoutError) as error:
            print(f"port {port}: {error}", file=sys.stderr)
            return 1
        print(f"port {port} is reachable at {external.host}:{external.port} by {external.protocol}", flush=True)
        sys.stdin.readline()
    print("removed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
