"""Before any test module: stock processors, referees of some tests, need torchvision when transformers is imported."""

from tests.fakes import stock_torchvision  # noqa: F401
