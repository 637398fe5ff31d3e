"""Data sets of the Hugging Face hub, fetched only when an id is given. Needs huggingface_hub (the extra `data`).

A data set in the local cache is taken from there, so an offline machine can load it; without a network the error comes
within seconds.
"""

# pyright: reportUnknownMemberType=false
# huggingface_hub's snapshot_download is only partly typed.

from __future__ import annotations

import re
from pathlib import Path

from p2r.errors import DataError, install_hint

HUB_IDS = {
    "lmms-lab/vstar-bench": "vstar",
    "craigwu/vstar_bench": "vstar",
    "DreamMr/HR-Bench": "hrbench_4k",
    "yifanzhang114/MME-RealWorld-Lmms-eval": "mme_realworld",
    "yifanzhang114/MME-RealWorld-lite-lmms-eval": "mme_realworld_lite",
    "yifanzhang114/MME-RealWorld-CN-Lmms-eval": "mme_realworld_cn",
    "HaochenWang/TreeBench": "treebench",
    "inclusionAI/ZoomBench": "zoombench",
    "Mini-o3/VisualProbe_Easy": "visualprobe_easy",
    "Mini-o3/VisualProbe_Medium": "visualprobe_medium",
    "Mini-o3/VisualProbe_Hard": "visualprobe_hard",
    "Ricky06662/ReasonSeg_val": "reasonseg",
    "Ricky06662/ReasonSeg_test": "reasonseg",
    "ChenShawn/DeepEyes-Datasets-47k": "p2r10k",
    "hiyouga/geometry3k": "rows",
    "lmms-lab/multimodal-open-r1-8k-verified": "rows",
}
"""Known data sets and their benchmarks. Other data sets are loaded as NAME:owner/dataset."""

TIMEOUT_S = 5.0
_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")


def is_hub_id(text: str) -> bool:
    return bool(_HUB_ID.match(text))


def fetch_dataset(hub_id: str) -> Path:
    """Return the folder of a data set, downloading it unless it is in the cache.

    Raises:
        DataError: huggingface_hub or the network is missing, or the data set does not exist or is not accessible.
    """
    try:
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise DataError(
            f"{hub_id!r} is not a local path, and huggingface_hub, which would fetch it, is not installed",
            hint=f"{install_hint('data')}, or name a local file",
        ) from error
    try:
        return Path(huggingface_hub.snapshot_download(hub_id, repo_type="dataset", local_files_only=True))
    except (OSError, ValueError):
        pass  # not in the cache
    try:
        return Path(huggingface_hub.snapshot_download(hub_id, repo_type="dataset", etag_timeout=TIMEOUT_S))
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise DataError(
            f"the hub refused the data set {hub_id!r} (HTTP {status})",
            hint="is the name right, and has your account access? `hf auth login`"
            if status in (401, 403, 404)
            else "try later",
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"the data set {hub_id!r} is neither a local path nor in the cache, and the hub cannot be reached",
            hint="download it on a machine with network and name the local folder",
        ) from error
