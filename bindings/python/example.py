#!/usr/bin/env python3
"""Maps a TCP port until Enter is pressed: example.py [PORT]

With --ipv6 it opens a pinhole for IPv6, to an address of this machine that is chosen or to --ipv6=ADDRESS.
"""

import argparse
import sys

import plum


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--ipv6", nargs="?", const=True, default=False, metavar="ADDRESS")
    parser.add_argument("port", nargs="?", type=int, default=8000, metavar="PORT")
    arguments = parser.parse_args()
    port = arguments.port
    with plum.Session() as session, session.map("tcp", port, ipv6=arguments.ipv6) as mapping:
        try:
            external = mapping.wait(timeout=15)
        except (plum.Failed, TimeoutError) as error:
            print(f"port {port}: {error}", file=sys.stderr)
            return 1
        print(f"port {port} is reachable at {external} by {external.protocol}", flush=True)
        sys.stdin.readline()
    print("removed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
