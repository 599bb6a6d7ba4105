"""Notes every host that a process looks up or connects to, in the file that WATCH_LOG names; Python imports it itself.

Audit hooks see what Python code does; ``native.c`` sees what C code does.
"""

import os
import sys

LOG = os.environ.get("WATCH_LOG")
EVENTS = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr", "socket.sendto",
          "socket.getnameinfo"}


def note(event, arguments):
    if event not in EVENTS:
        return
    where = next((part for part in arguments if isinstance(part, str | bytes | tuple)), None)
    host = where[0] if isinstance(where, tuple) else where
    host = host.decode() if isinstance(host, bytes) else host
    if isinstance(where, tuple) and len(where) < 2 or event == "socket.connect" and not isinstance(where, tuple):
        return  # a socket of the file system
    if host not in (None, "", "0.0.0.0", "127.0.0.1", "::1", "::", "localhost"):
        handle = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"python {event} {host}\n".encode())
        os.close(handle)


if LOG:
    sys.addaudithook(note)
