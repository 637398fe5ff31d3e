"""Reads a request from standard input, runs its programs under limits, and writes what they show to standard output.

    python -I child.py PATHS...

PATHS is where modules are found, in place of `sys.path`. It ends when its parent does, however that ended: the parent
holds the other end of standard input. It has no environment, and can write no file.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from typing import IO, Any

MOST_SECONDS = 10
"""Seconds that a chat's programs may run, as the authors of Thyme limit them."""
MOST_BYTES = 3 << 30
"""Memory of the process, with its code and the images."""
BEGUN = b"."
"""Written when everything is loaded: what goes wrong after it is the program's fault."""


def main() -> None:
    """Answer one request."""
    sys.path[:] = sys.argv[1:]
    from PIL import Image

    from p2r.programs.run_programs import run_programs

    facts = read_head(sys.stdin.buffer)
    image = read_image(sys.stdin.buffer, facts["wh"])
    threading.Thread(target=_end_with_parent, daemon=True).start()
    Image.MAX_IMAGE_PIXELS = None
    sys.stdout.buffer.write(BEGUN)
    sys.stdout.buffer.flush()
    limit_process()
    outcome = run_programs(facts["programs"], image, facts["path"], as_released=facts["as_released"])
    parts = [made if isinstance(made, str) else {"wh": made.size, "region": made.region} for made in outcome.shown]
    write_head(sys.stdout.buffer, {"parts": parts, "error": outcome.error})
    for made in outcome.shown:
        if not isinstance(made, str):
            sys.stdout.buffer.write(made.image.tobytes())
    sys.stdout.buffer.flush()
    os._exit(0)  # the thread that waits for the parent would hold up an orderly end


def limit_process() -> None:
    """Limit time and memory, and forbid to write files, where the system can. Past its time, the process is killed."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        for kind, most in ((resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_AS, MOST_BYTES)):
            resource.setrlimit(kind, (most, most))
    if hasattr(signal, "alarm"):
        signal.alarm(MOST_SECONDS)  # its default is to end the process, also in the middle of a long computation


def write_head(pipe: IO[bytes], facts: object) -> None:
    """Write JSON with its length before it."""
    body = json.dumps(facts).encode()
    pipe.write(len(body).to_bytes(8, "big") + body)


def read_head(pipe: IO[bytes]) -> dict[str, Any]:
    """Read what `write_head` wrote. Raises ValueError where it ends early."""
    return json.loads(pipe.read(int.from_bytes(pipe.read(8), "big")))


def read_image(pipe: IO[bytes], size: tuple[int, int]) -> Any:  # noqa: ANN401  # Pillow may not be loaded yet
    """Read an RGB image. Raises ValueError where it ends early."""
    from PIL import Image

    width, height = size
    return Image.frombytes("RGB", (width, height), pipe.read(3 * width * height))


def _end_with_parent() -> None:
    sys.stdin.buffer.read(1)
    os._exit(1)


if __name__ == "__main__":
    main()
