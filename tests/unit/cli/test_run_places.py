"""The names of systems, and the places of their runs, as `p2r report` is given them."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2r.cli.run_places import find_runs, name_folders, split_names
from p2r.errors import ConfigError
from p2r.runs.evaluation import SAMPLES_FILE, TRACES_FILE


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/a", "runs/b", "lr=1"):
        Path(folder).mkdir(parents=True)
        for name in (SAMPLES_FILE, TRACES_FILE):
            (Path(folder) / name).touch()


def name_runs(*texts: str) -> dict[Path, str]:
    places = split_names(texts)
    return name_folders(places, find_runs(list(places)))


@pytest.mark.parametrize(
    ("text", "place", "name"),
    [
        ("runs/a", "runs/a", ""),
        ("lr=1", "lr=1", ""),
        ("Ours=lr=1", "lr=1", "Ours"),
        ("T=0.7=runs/a", "runs/a", "T=0.7"),
        (" Ours =runs/a", "runs/a", "Ours"),
    ],
)
def test_names_and_folders_may_hold_an_equals_sign(text: str, place: str, name: str) -> None:
    assert split_names([text]) == {Path(place): name}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["lr=2"], "there is no folder 'lr=2', and none '2' to be called 'lr'"),
        (["X=runs/a", "Y=runs/a"], "runs/a is called both 'X' and 'Y'"),
        (["=runs/a"], "'=runs/a' is neither a folder nor a name with one"),
        (["X="], "'X=' is neither a folder nor a name with one"),
    ],
)
def test_what_names_nothing_or_too_much_is_told(texts: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        split_names(texts)
    assert error.value.message == message


@pytest.mark.parametrize("texts", [("X=runs/a", "runs/a"), ("runs/a", "X=runs/a"), ("X=runs/a", "X=runs/a")])
def test_a_run_keeps_its_name_when_it_is_given_again(texts: tuple[str, ...]) -> None:
    assert name_runs(*texts) == {Path("runs/a"): "X"}


@pytest.mark.parametrize("texts", [("X=runs", "Y=runs/b"), ("Y=runs/b", "X=runs")])
def test_the_name_of_the_nearer_folder_counts(texts: tuple[str, ...]) -> None:
    assert name_runs(*texts) == {Path("runs/a"): "X", Path("runs/b"): "Y"}


def test_a_run_is_found_once_however_its_path_is_written() -> None:
    assert name_runs("X=runs/a", str(Path("runs/a").resolve())) == {Path("runs/a"): "X"}
    assert find_runs([Path("runs/a"), Path("runs/a").resolve(), Path("runs")]).evaluated == [
        Path("runs/a"),
        Path("runs/b"),
    ]
