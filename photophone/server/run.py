"""Serving an app: on TERM or INT nothing new is taken up, accepted requests are finished, then the process ends."""

from __future__ import annotations

import socket
from types import FrameType

import uvicorn
from fastapi import FastAPI

from photophone.core.command import on_signals
from photophone.core.limits import SERVER_CONNECTIONS, SERVER_HEADER_BYTES

PAGE_SECONDS = 6
"""That pages of a mounted demo have to end, after all accepted requests are answered."""


class Server(uvicorn.Server):
    """uvicorn's server, which goes on answering while it ends.

    uvicorn itself closes its sockets at the first signal, and clients that are about to connect are reset. This one
    tells them 503 until the last accepted request is answered. A second signal ends it at once.
    """

    ended_by: int | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal begins the end, further ones are uvicorn's."""
        if self.ended_by is None:
            self.ended_by = sig
            self.config.app.state.requests.end()
        else:
            super().handle_exit(sig, frame)

    async def on_tick(self, counter: int) -> bool:
        """Whether to end: told by a second signal, or all accepted requests are answered."""
        requests = self.config.app.state.requests
        return await super().on_tick(counter) or (requests.is_ending and not requests.open)


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that is bound, and does not listen yet.

    Raises:
        ValueError: the port is taken, or the host is none of this computer.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ValueError(f"the server cannot listen on {host}, port {port}: {error.strerror or error}; choose another "
                         "--host or --port") from error
    listening.set_inheritable(True)
    return listening


def address_of(listening: socket.socket) -> str:
    """``http://HOST:PORT`` of a bound socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(app: FastAPI, listening: socket.socket) -> None:
    """Serve until a signal ends it.

    Raises:
        SystemExit: with 128 and the number of that signal.
    """
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False, http="h11", ws="none",
                            h11_max_incomplete_event_size=2 * SERVER_HEADER_BYTES,
                            limit_concurrency=SERVER_CONNECTIONS, timeout_keep_alive=30, lifespan="on",
                            timeout_graceful_shutdown=PAGE_SECONDS)
    server = Server(config)
    with on_signals(server.handle_exit):
        server.run(sockets=[listening])
    if server.ended_by is not None:
        raise SystemExit(128 + server.ended_by)
