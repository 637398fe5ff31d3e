"""llama.cpp's own server, out of the package xllamacpp, in a process of its own that ends with the block."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from p2r.models.gguf.export import GgufFiles

END_S = 60.0


@contextmanager
def serving(files: GgufFiles, log: Path, *, context: int, slots: int, exact: bool = True) -> Iterator[str]:
    """Run the server on a free port until the block ends; yields the URL of its API.

    Args:
        context: tokens of all slots together.
        slots: replies at the same time.
        exact: calculate in float32 as a local model does; else as llama.cpp does by default.
    """
    arguments = [str(files.language), str(files.vision), str(context), str(slots), str(int(exact))]
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, __file__, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output
        )
    assert process.stdin is not None and process.stdout is not None
    try:
        address = process.stdout.readline().decode().strip()
        assert address.startswith("http"), log.read_text(errors="replace")[-3000:]
        yield f"{address}/v1"
    finally:
        process.stdin.close()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def main() -> None:
    """Serve until stdin ends, which it also does when the process on its other side dies."""
    import xllamacpp

    language, vision, context, slots, exact = sys.argv[1:]
    params = xllamacpp.CommonParams()
    params.model.path, params.mmproj.path = language, vision
    params.n_ctx, params.n_parallel = int(context), int(slots)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.port = 0
    if int(exact):
        params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
