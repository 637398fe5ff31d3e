"""Which runs are one system, and what it is called."""

from __future__ import annotations

from pathlib import Path

from p2r.report.evaluation.systems import CHAT, GENERAL, OURS, SEARCH, find_systems, needs_names
from tests.fakes.systems import ask


def test_runs_of_one_model_in_one_mode_are_one_system() -> None:
    runs = [ask("vstar", "AB"), ask("hrbench_4k", "AAAB"), ask("vstar", "AB", mode="direct"), ask("hrbench_4k", "AAAB")]
    systems = find_systems(runs)
    assert [(system.name, list(system.runs)) for system in systems] == [
        ("P2R-4B, p2r, 1", ["vstar", "hrbench_4k"]),
        ("P2R-4B, direct", ["vstar"]),
        ("P2R-4B, p2r, 2", ["hrbench_4k"]),
    ]
    assert systems[0].runs["hrbench_4k"] is runs[1] and systems[2].runs["hrbench_4k"] is runs[3]


def test_what_differs_is_in_the_names_and_nothing_else() -> None:
    runs = [
        ask("vstar", "AB", model="a/P2R"),
        ask("vstar", "AB", model="b/P2R"),
        ask("vstar", "AB", model="deep.json", mode="direct"),
        ask("vstar", "AB", model="deep.json", mode="direct", max_pixels=512),
        ask("vstar", "AB", model="deep.json", perceiver_model="x#y/Looker"),
    ]
    assert [system.name for system in find_systems(runs)] == [
        "P2R, p2r, a/P2R",
        "P2R, p2r, b/P2R",
        "deep.json, direct",
        "deep.json, direct, max pixels 512",
        "deep.json with Looker, p2r",
    ]


def test_folders_tell_the_rest_apart() -> None:
    runs = [ask("vstar", "AB", folder="runs/a"), ask("vstar", "BB", folder="runs/b")]
    assert [system.name for system in find_systems(runs)] == ["P2R-4B, p2r, runs/a", "P2R-4B, p2r, runs/b"]


def test_a_given_name_is_the_name_and_joins_runs_of_other_settings() -> None:
    runs = [
        ask("vstar", "AB", folder="a"),
        ask("hrbench_4k", "AAAB", folder="b", max_pixels=512),
        ask("vstar", "AB", folder="c", mode="zoom"),
    ]
    [one, zoom] = find_systems(runs, {Path("a"): "Ours", Path("b"): "Ours"})
    assert (one.name, list(one.runs), zoom.name) == ("Ours", ["vstar", "hrbench_4k"], "P2R-4B, zoom")
    assert (one.differing, zoom.differing) == (["max_pixels"], [])
    both = find_systems(runs, {Path(name): "Ours" for name in "abc"})
    assert [system.name for system in both] == ["Ours, p2r", "Ours, zoom"]


def test_groups_are_the_papers() -> None:
    modes = {
        "thinking": GENERAL,
        "tools:zwz": GENERAL,
        "zoom": SEARCH,
        "p2r:vlm-r1": SEARCH,
        "tools:deepeyes": CHAT,
        "oracle": OURS,
    }
    assert {mode: find_systems([ask("vstar", "A", mode=mode)])[0].group for mode in modes} == modes  # type: ignore[arg-type]


def test_a_page_uses_these_names_where_its_own_do_not_tell() -> None:
    assert not needs_names([ask("vstar", "AB"), ask("vstar", "AB", mode="direct")])
    assert needs_names([ask("vstar", "AB"), ask("vstar", "AB", model="other")])
    assert needs_names([ask("vstar", "AB", folder="a"), ask("vstar", "AB", folder="b")])
    assert not needs_names([ask("vstar", "AB", folder="a")])
