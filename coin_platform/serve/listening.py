"""Opens the socket at which a server listens."""

import socket

from coin_platform.errors import SettingsError
from coin_platform.settings import PREFIX


def listen(host: str, port: int, *, setting: str = "SERVE_PORT", backlog: int = 128) -> socket.socket:
    """Return a listening socket. Raises `SettingsError` if the address cannot be had. `setting` names the port's."""
    try:
        [first, *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listening = socket.create_server(first[4][:2], family=first[0], backlog=backlog)
    except OSError as error:
        raise SettingsError(
            f"{PREFIX}SERVE_HOST={host}, {PREFIX}{setting}={port}: the server cannot listen there: "
            f"{error.strerror or error}; end the process that does, or set another port"
        ) from None
    return listening
