"""The model classes of transformers, imported so that a torchvision that does not fit does no harm."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys

logger = logging.getLogger(__name__)


def _hide_broken_torchvision() -> None:
    """Hide a torchvision that was built for another torch: it breaks transformers on import, and nothing needs it."""
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is None:
        return
    try:
        importlib.import_module("torchvision")
    except Exception as error:
        logger.info("torchvision does not fit this torch and is ignored: %s", error)
        sys.modules["torchvision"] = None  # type: ignore[assignment]
        answer = getattr(sys.modules.get("transformers.utils.import_utils"), "is_torchvision_available", None)
        forget = getattr(answer, "cache_clear", None)
        if forget is not None:
            forget()


_hide_broken_torchvision()

from transformers import (  # noqa: E402
    AutoModelForImageTextToText,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLForConditionalGeneration,
    Qwen3VLForConditionalGeneration,
)

__all__ = [
    "AutoModelForImageTextToText",
    "Qwen2VLForConditionalGeneration",
    "Qwen2_5_VLForConditionalGeneration",
    "Qwen3VLForConditionalGeneration",
]
