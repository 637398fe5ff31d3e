"""Commands that tests start and interrupt."""

import signal


def heed_ctrl_c() -> None:
    """A `preexec_fn`: a shell starts background jobs with SIGINT ignored, and their children would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
