"""The layouts in which training data is passed around: which columns tell one, and which hold what.

A row is a question about an image with its answer. Layouts differ in the names of the columns, in whether the question
is a text or a list of messages, and in whether the answer stands apart or is the assistant's message.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

IMAGE_COLUMNS = ("images", "image", "image_path")
"""The names of a column of images, in the order in which they are looked for."""
KEY_WORD_COLUMNS = ("key_word", "key_words", "keywords")
"""The names of a column of key words in rows of any layout, the one that is written first."""


@dataclass(frozen=True, slots=True)
class RowLayout:
    """A layout. Columns inside a column are written with a dot.

    name: its name in `p2r convert --to`.
    title: its name in messages.
    question: the column of the question, a text or messages.
    answer: the column of the answer; "" when the assistant's message is the answer.
    images: the column of the image; "" when the image is in the messages.
    also: other columns that tell the layout.
    id, category, form: columns that a row may have; "" for none. form: the answer form, which other layouts leave open.
    """

    name: str
    title: str
    question: str
    answer: str
    images: str
    also: tuple[str, ...] = ()
    id: str = "id"
    category: str = ""
    form: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that tell the layout."""
        names = (self.question, self.images, self.answer.partition(".")[0], *self.also)
        return tuple(dict.fromkeys(name for name in names if name))

    def describe(self, present: Collection[str] = ()) -> str:
        """Return the title and the columns, for messages: the image's by the name that it has among those present."""
        other = next((name for name in IMAGE_COLUMNS if name in present), self.images)
        named = [other if name == self.images and name not in present else name for name in self.columns]
        return f"{self.title} rows ({', '.join(named)})"


P2R10K = RowLayout(
    "p2r10k",
    "P2R-10k",
    "prompt",
    "reward_model.ground_truth",
    "images",
    id="extra_info.index",
    category="data_source",
    form="extra_info.answer_form",
)
DEEPEYES = replace(P2R10K, name="deepeyes", title="DeepEyes", also=("env_name",))
MINI_O3 = RowLayout("mini_o3", "Mini-o3 (VisualProbe)", "problem", "solution", "images", id="doc_id")
P2R_FAMILY = (P2R10K, DEEPEYES, MINI_O3)
"""The layouts of the benchmark `p2r10k`; rows in the others are the benchmark `rows`."""

LAYOUTS = (
    P2R10K,
    DEEPEYES,
    MINI_O3,
    RowLayout("easyr1", "EasyR1", "problem", "answer", "images"),
    RowLayout("pebr_r1", "PeBR-R1", "problem", "answer", "images", also=(KEY_WORD_COLUMNS[0],), id="qid"),
    RowLayout("open_r1", "multimodal-open-r1", "problem", "solution", "image"),
    RowLayout("zwz", "ZwZ", "question", "answer", "images", category="category"),
    RowLayout("ms_swift", "ms-swift", "messages", "solution", ""),
    RowLayout("query_response", "ms-swift query/response", "query", "response", "images"),
    RowLayout("sharegpt", "LLaMA-Factory (ShareGPT)", "conversations", "", "images"),
    RowLayout("alpaca", "LLaMA-Factory (Alpaca)", "instruction", "output", "images"),
    RowLayout("llava", "LLaVA or VLM-R1", "conversations", "", "image"),
    RowLayout("openai_chat", "OpenAI chat", "messages", "", ""),
)
"""All layouts. Of several that fit, the one with the most columns is meant, then the first."""


def recognize_layout(columns: Collection[str]) -> RowLayout | None:
    """Return the layout of rows with these columns: by all its columns, else with another name for the image's."""
    fitting = [layout for layout in LAYOUTS if set(layout.columns) <= set(columns)]
    if not fitting and any(name in columns for name in IMAGE_COLUMNS):
        fitting = [layout for layout in LAYOUTS if layout.images and not _missing(layout, columns, any_image=True)]
    return max(fitting, key=lambda layout: len(layout.columns), default=None)


def explain_nearest(columns: Collection[str]) -> str:
    """Say which layouts the columns come nearest to, and what is missing; "" when none shares a column with them."""
    shared = [layout for layout in LAYOUTS if set(layout.columns) & set(columns)]
    shared.sort(key=lambda layout: len(_missing(layout, columns, any_image=True)))
    named = [
        f"{layout.describe()}, without {' and '.join(_missing(layout, columns, any_image=True))}"
        for layout in shared[:2]
    ]
    return f"nearest: {'; '.join(named)}" if named else ""


def _missing(layout: RowLayout, columns: Collection[str], *, any_image: bool) -> list[str]:
    has_image = any_image and any(name in columns for name in IMAGE_COLUMNS)
    return [name for name in layout.columns if name not in columns and not (name == layout.images and has_image)]
