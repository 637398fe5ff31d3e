"""Choose a device and a dtype, and recognize a failure for want of memory."""

from __future__ import annotations

import torch

from p2r.errors import ConfigError

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(name: str | None) -> torch.device:
    """Return the device with this name; for None or "auto", a GPU if there is one.

    Raises:
        ConfigError: there is no such device.
    """
    if name is None or name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"there is no device {name!r}", hint="cpu, cuda, cuda:1, ...") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device {name!r} is asked for, but torch sees {torch.cuda.device_count()} GPUs",
            hint="leave out `device`, or install a torch built for your GPU",
        )
    return device


def choose_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """Return the dtype with this name; for None or "auto", bfloat16 on a GPU and float32 on a CPU.

    Raises:
        ConfigError: there is no such dtype.
    """
    if name is None or name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise ConfigError(f"there is no dtype {name!r} here", hint=", ".join(DTYPES))
    return DTYPES[name]


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error means that the device or the machine is out of memory."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def quote_out_of_memory(error: Exception) -> str:
    """The first sentence of such an error; torch adds advice about its own settings."""
    return str(error).partition(". ")[0]
