"""Run the server until it is told to end; then what runs is finished, and the rest refused."""

from __future__ import annotations

import errno
import logging
import signal
from collections.abc import Callable
from types import FrameType

import uvicorn

from p2r.errors import ConfigError, reason_of
from p2r.serving.app import Application
from p2r.serving.connection import TimedProtocol

LONGEST_END_S = 30


def run_server(
    application: Application,
    host: str,
    port: int,
    *,
    on_start: Callable[[str], None] = lambda url: None,
    timeout_end_s: int = LONGEST_END_S,
) -> None:
    """Serve until SIGTERM or Ctrl-C, which is raised again at the end.

    Args:
        port: 0 for a free one.
        on_start: told the server's URL when it listens.
        timeout_end_s: what runs longer after the signal is cut off.

    Raises:
        ConfigError: the address cannot be listened at.
    """
    config = uvicorn.Config(
        application.app,
        host=host,
        port=port,
        http=TimedProtocol,
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=timeout_end_s,
        h11_max_incomplete_event_size=32_768,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # it would print traces
    try:
        listener = config.bind_socket()
    except (SystemExit, OSError) as error:  # uvicorn ends the process, whatever the reason
        reason = error if isinstance(error, OSError) else error.__context__
        is_port = isinstance(reason, OSError) and reason.errno in (errno.EADDRINUSE, errno.EACCES)
        said = reason_of(reason) if isinstance(reason, OSError) else "the address cannot be used"
        raise ConfigError(
            f"the server cannot listen at {host}, port {port}: {said}",
            hint="choose another `port`, or 0 for a free one" if is_port else "choose another `host`",
        ) from error
    server = _Server(config, application)
    with listener:
        on_start(f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}")
        server.run(sockets=[listener])
    if server.sign == signal.SIGINT:
        raise KeyboardInterrupt  # a job in the background ignores Ctrl-C, which uvicorn raises again in vain


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, application: Application) -> None:
        super().__init__(config)
        self._application = application
        self.sign: int | None = None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Admit nobody any more. Python calls this between two steps of the loop, in the loop's thread."""
        self.sign = sig
        self._application.line.close()
        super().handle_exit(sig, frame)
