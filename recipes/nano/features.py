"""What the frozen vision tower says of each scene's images, computed once and kept in one file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen3VLForConditionalGeneration

from recipes.nano.encode import Features, encode
from recipes.nano.pool import Entry, View


@dataclass(frozen=True, slots=True)
class CachedEntry:
    """A scene and the features of its images; the pixels are gone."""

    entry: Entry
    full: Features
    case: tuple[Features, ...]


@torch.no_grad()
def cache_features(model: Qwen3VLForConditionalGeneration, entries: list[Entry], path: Path, batch: int = 24) -> None:
    """Write the features of all images, half precision, in two large tensors, beside the scenes without their pixels.

    Empties `entries` on the way: their pixels take several gigabytes.
    """
    tokens, deep, slim = [], [], []
    while entries:
        some, entries[:batch] = entries[:batch], []
        for feature in encode(model, [view for entry in some for view in _images(entry)]):
            tokens.append(feature.tokens.half())
            deep.append(feature.deep.half())
        slim += [_without_pixels(entry) for entry in some]
    part = path.with_suffix(".part")
    torch.save({"tokens": torch.cat(tokens), "deep": torch.cat(deep, 1), "entries": slim}, part)
    part.rename(path)


def load_features(path: Path) -> list[CachedEntry]:
    saved = torch.load(path, weights_only=False)
    cached, start = [], 0
    for entry in saved["entries"]:
        features = []
        for view in _images(entry):
            stop = start + view.grid[0] * view.grid[1]
            features.append(Features(saved["tokens"][start:stop], saved["deep"][:, start:stop]))
            start = stop
        cached.append(CachedEntry(entry, features[0], tuple(features[1:])))
    return cached


def _without_pixels(entry: Entry) -> Entry:
    def strip(view: View) -> View:
        return replace(view, patches=np.zeros((0, 0), np.uint8))

    case = entry.case
    if case:
        case = replace(case, annotated=strip(case.annotated), crops=tuple(strip(crop) for crop in case.crops))
    return replace(entry, full=strip(entry.full), case=case, zooms=())


def _images(entry: Entry) -> list[View]:
    return [entry.full, *((entry.case.annotated, *entry.case.crops) if entry.case else ())]
