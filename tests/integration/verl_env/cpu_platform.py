"""verl on a CPU, as a platform plugin: VERL_USE_EXTERNAL_MODULES=cpu_platform VERL_PLATFORM=cpu. For tests alone."""

from __future__ import annotations

import contextlib
import os
import time
import types
from multiprocessing.shared_memory import SharedMemory

os.environ.setdefault("VERL_ENGINE_DEVICE", "cuda")  # under this name verl finds its FSDP engine

import ray._private.services
import torch
import torch.distributed
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry


class _Device(types.ModuleType):
    """`torch.cpu`, with what verl asks of `torch.cuda`."""

    def __getattr__(self, name: str) -> object:
        return getattr(torch.cpu, name)


def _nothing(*_: object, **__: object) -> None:
    """There is nothing to do."""


device = _Device("cpu_device")
for name in ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved"):
    setattr(device, name, lambda *_, **__: 0)
for name in ("empty_cache", "ipc_collect", "synchronize", "set_device", "reset_peak_memory_stats"):
    setattr(device, name, _nothing)
device.mem_get_info = lambda *_, **__: (0, 0)
device.get_rng_state, device.set_rng_state = torch.get_rng_state, torch.set_rng_state
device.manual_seed = device.manual_seed_all = torch.manual_seed
device.is_available = lambda: False
device.get_device_name = lambda *_, **__: "CPU"
device.current_device = lambda: "cpu"
device.device_count = lambda: 1


@PlatformRegistry.register(platform="cpu")
class CpuPlatform(PlatformBase):
    """One CPU. Weights go to vLLM through shared memory, and Ray's GPUs are only names."""

    device_name = vendor_name = "cpu"
    device_module = device

    def is_available(self):
        return True

    def current_device(self):
        return "cpu"

    def device_count(self):
        return 1

    def set_device(self, device_index):
        pass

    def synchronize(self, device_index=None):
        pass

    def manual_seed(self, seed):
        torch.manual_seed(seed)

    def manual_seed_all(self, seed):
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings):
        pass

    def empty_cache(self):
        pass

    def get_device_capability(self, device_index=0):
        return None, None

    def communication_backend_name(self):
        return "gloo"

    def visible_devices_envvar(self):
        return "CUDA_VISIBLE_DEVICES"

    def ray_resource_name(self):
        return "GPU"

    def ray_noset_envvars(self):
        return []

    def is_ipc_supported(self):
        return False

    @contextlib.contextmanager
    def nvtx_range(self, msg):
        yield

    def profiler_start(self):
        pass

    def profiler_stop(self):
        pass

    def cudart(self):
        return None


_init, _close = torch.distributed.init_process_group, SharedMemory.close


def _init_once(backend=None, *args, **kwargs):
    """verl names "cpu:gloo,cpu:gloo", and torch takes a device once."""
    if isinstance(backend, str):
        backend = ",".join(dict.fromkeys(backend.split(",")))
    return _init(backend, *args, **kwargs)


def _close_if_free(self):
    """A copy from shared memory to a CPU is a view, which may be alive still."""
    with contextlib.suppress(BufferError):
        _close(self)


_get_node = ray._private.services.get_node


def _get_node_patiently(*args, **kwargs):
    """Ray lets a node start for 30 seconds, which takes longer on a busy machine."""
    for _ in range(15):  # about nine minutes
        with contextlib.suppress(RuntimeError):
            return _get_node(*args, **kwargs)
        time.sleep(5)
    return _get_node(*args, **kwargs)


ray._private.services.get_node = _get_node_patiently
torch.distributed.init_process_group = _init_once
torch.Tensor.pin_memory = lambda self, *_, **__: self
SharedMemory.close = _close_if_free
