"""A run over several processes of this machine, started as torchrun starts them: `p2r train RECIPE --processes 8`.

The first process prints; what the others print is kept aside, and shown when one of them is the first to fail. Signals
go to all processes, which stop together.
"""

# torch.distributed is typed in part:
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false

from __future__ import annotations

import logging
import os
import sys
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from p2r.signals import EXIT_OFFSET, as_exit_code

LAST_CHARS = 4000
THREADS_VARIABLE = "OMP_NUM_THREADS"


def run_processes(num: int, arguments: Sequence[str]) -> int:
    """Run `p2r` with these arguments in `num` processes; returns the exit code of the first that failed, or 0.

    A signal to this process goes to all of them; the exit code is then the signal's.
    """
    os.environ.setdefault(THREADS_VARIABLE, str(max(1, (os.cpu_count() or 1) // num)))
    logging.disable(logging.CRITICAL)  # of the launcher, in this process alone
    with tempfile.TemporaryDirectory(prefix="p2r-processes-") as folder:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=num,
            run_id=uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            monitor_interval=0.1,
            logs_specs=DefaultLogsSpecs(log_dir=folder, redirects=dict.fromkeys(range(1, num), Std.ALL)),
        )
        try:
            elastic_launch(config, sys.executable)("-m", "p2r", *arguments)
        except SignalException as error:
            return EXIT_OFFSET + error.sigval
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            if 0 not in error.failures:  # the first process has not said why
                _show_last_words(Path(folder), rank)
            return as_exit_code(failure.exitcode)
        finally:
            logging.disable(logging.NOTSET)
    return 0


def _show_last_words(folder: Path, rank: int) -> None:
    """Print the end of what a process has said."""
    for path in sorted(folder.rglob(f"{rank}/stderr.log"))[-1:]:
        sys.stderr.write(path.read_text(encoding="utf-8", errors="replace")[-LAST_CHARS:])
