"""The prose reads as written in English: no calques, no British spellings, one word for one thing.

Checked are the sources (comments, docstrings, messages, help texts) and the pages; not prompts, which are data, and not
tests. A pattern's space stands for any white space.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ("src/p2r/**/*.py", "benchmarks/*.py", "recipes/**/*.py")
PAGES = ("*.md", "docs/**/*.md", "recipes/**/*.md", "src/p2r/**/*.md", "Makefile", "pyproject.toml", ".ci/run")

NATURAL = "longer|more|less|fewer|such|need|way|other|reason|different|better|worse|room|point|use"
PLACES = "for|in|of|to|from|on|at|with|left|here|there|yet|that"
FIGURES = "the|all|other|same|these|those|its|raw|published|measured|recipe's"
BRITISH = (
    "colour|favour|behaviour|neighbour|honour|rasteris|optimise|optimisa|normalis|recognis|initialis|summaris|tokenis|"
    "organis|generalis|minimis|maximis|serialis|analysed|analysing|centred|labelled|labelling|modelling|travell|"
    "judgement|grey|catalogue|centre|licence|learnt|spelt|towards|whilst"
)

RULES = {
    rf"(?<!there\s)\b(is|are|was|were) no (?!({NATURAL})\b|\w+ ({PLACES})\b)": "is not a ...",
    r"\b(that|which|what|who) (is|are) (?-i:none)\b|\bis (?-i:none) of\b": "is not one of ...",
    r"\b(leave|leaves|leaving|left) (it )?away\b": "leave out",
    r"\b(what|which|that|it) (stands|stood|stand) in\b|\bstands? (there|in it)\b": "the contents",
    r"\b(go|goes|going|went|gone) on (where|with|from|if|as|until|without)\b": "resume or continue",
    r"\b(it|command|run|call|one) (goes|go) on\b": "resume or continue",
    r"\banew\b": "again",
    r"\bin one go\b": "at once",
    r"\bat hand\b": "available",
    r"\bfor ever\b": "forever",
    r"\bby its place\b": "by its position",
    r"\bsays? (nothing|something) of\b": "what is missing",
    r"\blies? in (files|the file|the folder)\b": "is in",
    r"\b(nobody|none|no one) (is|was|are) asked\b": "who is not asked",
    r"\bpictures?\b": "image",
    rf"\b({FIGURES}) figures\b|\bfigures (of|in|are|were|that|and)\b": "settings, metrics, numbers or charts",
    rf"\b({BRITISH})": "American spelling",
}
"""Pattern -> what to write instead."""

EXCEPTIONS = frozenset(
    {
        ("CHANGELOG.md", "picture"),
        ("CHANGELOG.md", "Picture"),
        *(("src/p2r/answers/option_text.py", spelling) for spelling in ("grey", "colour", "centre")),
        ("src/p2r/training/state/checkpoint.py", "optimise"),
    }
)
"""(file, text of the hit) that stay: names that something had before, or has in files; spellings that are read."""

FRAGMENT = re.compile(r"(What|How|Whether|Who|Whose|Which|Why|Where|Of|By|As|From|Those|For|With|At|To)\b")
"""A docstring that begins so has neither a subject nor a verb. A module's may: it is a title."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def find_files() -> list[Path]:
    return sorted({path for pattern in (*CODE, *PAGES) for path in ROOT.glob(pattern)})


def find_hits(path: Path) -> list[str]:
    name, text = name_of(path), path.read_text(encoding="utf-8")
    hits: list[tuple[int, str]] = []
    for pattern, advice in RULES.items():
        for match in re.finditer(pattern.replace(" ", r"\s+"), text, re.IGNORECASE):
            found = " ".join(match[0].split())
            if (name, found) not in EXCEPTIONS:
                line = text.count("\n", 0, match.start()) + 1
                hits.append((line, f"{name}:{line}: {found!r}; better: {advice}"))
    return [hit for _, hit in sorted(hits)]


def find_fragments(source: str) -> list[str]:
    """Return the first lines of the docstrings that are not sentences; a constant's docstring follows the constant."""
    tree = ast.parse(source)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    bodies += [node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    texts = [
        statement.value.value
        for body in (*bodies, tree.body[1:])
        for statement in body
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    ]
    return [text.splitlines()[0] for text in texts if isinstance(text, str) and FRAGMENT.match(text)]


@pytest.mark.parametrize("path", find_files(), ids=name_of)
def test_the_prose_reads_as_english(path: Path) -> None:
    assert find_hits(path) == []


def test_the_rules_find_what_they_are_for_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("'x' is no shard. A number that\n  is none. The colour of the recipe's figures.")
    assert len(find_hits(page)) == 4
    page.write_text("There is no shard, and it is no longer needed. A figure shows that x is None. Optimism in color.")
    assert find_hits(page) == []


@pytest.mark.parametrize("path", sorted((ROOT / "src").rglob("*.py")), ids=name_of)
def test_docstrings_are_sentences(path: Path) -> None:
    assert find_fragments(path.read_text(encoding="utf-8")) == []


def test_fragments_are_found_wherever_a_docstring_is() -> None:
    source = '''"""What a module is for."""
A = 1
"""How large."""
class B:
    """Whose it is."""
    c: int
    """Of which kind."""
    async def d(self):
        """Whether it is so."""
        def e():
            """Forms a sentence: this word only begins like one of them."""
'''
    found = ["How large.", "Of which kind.", "Whether it is so.", "Whose it is."]
    assert sorted(find_fragments(source)) == found


COUNT = re.compile(r"^(len\(|sum\(|num_|count\b|total$)|\.num_|\bcount\b|num_\w+$")
"""An expression that counts things, by how it is written."""

PLURAL = re.compile(r" (?:[a-z]+ ){0,2}?(?!(?:is|was|has|does|this|its|as|us|less|across)\b)[a-z]{2,}(?<![su])s\b")

COUNTED_EXCEPTIONS = frozenset(
    {
        ("src/p2r/report/kit/trace_view.py", "len(text) - 2 * part"),  # always many
        ("src/p2r/training/engines/local/policy.py", "len(weights)"),  # a fingerprint that is stored
        ("src/p2r/training/engines/local/policy.py", "total"),
        ("src/p2r/training/rows/choose.py", "len(rows)"),  # as well
        ("src/p2r/training/rows/choose.py", "rule.num_rollouts"),
    }
)
"""(file, expression) that stay as they are."""


SHARE = re.compile(r" (of|of the latest|and) $")
"""The words before the number of a whole, as in "1 of 1 images"."""


def find_plurals(source: str) -> list[tuple[int, str]]:
    """Return the (line, expression) of each count in an f-string that a plural follows, which reads "1 images".

    A share ("1 of 1 images") may have a plural, and so may a count that a condition beside it keeps above one.
    """
    found: list[tuple[int, str]] = []
    tree = ast.parse(source)
    guarded = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.IfExp) and re.search(r"== 1|> 1|!= 1|< 2|< 4|^images$", ast.unparse(node.test))
        for part in ast.walk(node)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.JoinedStr) or id(node) in guarded:
            continue
        before = ""
        for part, following in zip(node.values, [*node.values[1:], None], strict=True):
            if isinstance(part, ast.FormattedValue) and isinstance(following, ast.Constant):
                expression = ast.unparse(part.value)
                if COUNT.search(expression) and PLURAL.match(str(following.value)) and not SHARE.search(before):
                    found.append((node.lineno, expression))
            before = str(part.value) if isinstance(part, ast.Constant) else ""
    return found


@pytest.mark.parametrize("path", sorted((ROOT / "src").rglob("*.py")), ids=name_of)
def test_counted_nouns_agree_with_their_number(path: Path) -> None:
    found = find_plurals(path.read_text(encoding="utf-8"))
    found = [(line, text) for line, text in found if (name_of(path), text) not in COUNTED_EXCEPTIONS]
    assert found == [], "write it with errors.count_nouns"


def test_plurals_after_a_count_are_found_and_nothing_else() -> None:
    wrong = ["{len(a)} images", "left out {self.num_rows:,} bad rows", "{count} of the samples", "{sum(a)} boxes here"]
    right = ["{a} images", "1 of {len(a)} rows", "{len(a)} is less", "{count} this", "{num_rows}, {b} less"]
    for text in wrong[:2] + wrong[3:]:
        assert len(find_plurals(f"f'{text}'")) == 1, text
    for text in right:
        assert find_plurals(f"f'{text}'") == [], text
    assert find_plurals("f'{len(a)} rows' if len(a) > 1 else 'a row'") == []
