"""Where a recipe's rows come from. Also for reports, which look for the images there: no torch here."""

from __future__ import annotations

from p2r.benchmarks.base import Benchmark
from p2r.benchmarks.load import load_benchmark
from p2r.benchmarks.needles import TRAINING_SEEDS
from p2r.config import DataSettings
from p2r.errors import ConfigError


def load_source(settings: DataSettings) -> Benchmark:
    """The rows, unchecked; headers of images are not read.

    Raises:
        DataError: nothing there, not the layout, or more unusable rows than `skip_bad` allows.
        ConfigError: needles without a number, or with a setting that is not usable.
    """
    if settings.is_generated:
        if settings.num_rows is None:
            raise ConfigError("needles never run out", hint="set data.num_rows")
        return load_benchmark(settings.source, seed=TRAINING_SEEDS + settings.seed, num_samples=settings.num_rows)
    return load_benchmark(
        settings.source,
        split=settings.split,
        images=settings.images,
        skip_bad=settings.skip_bad,
        check_images=False,
    )
