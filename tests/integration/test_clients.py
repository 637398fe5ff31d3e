"""Other people's clients of OpenAI's interface ask `p2r serve`, as they are, and get the answers that p2r gives.

`openai` and curl are in test_serve.py. Each client runs in a process of its own, from where the Makefile put it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from p2r import P2R
from p2r.benchmarks.needles import Needles
from p2r.models.load import load_model
from p2r.serving.settings import Access
from tests.fakes import guest_tools
from tests.fakes.served import Served, data_url, serve

pytestmark = pytest.mark.slow

SAMPLES = Needles(seed=5, num_samples=2)
KEY = "sk-test"


@dataclass(frozen=True)
class Asked:
    """A server, a folder with questions.json, and what p2r itself answers."""

    served: Served
    here: Path
    answers: list[str]

    @property
    def url(self) -> str:
        return f"{self.served.url}/v1"

    def run(self, guest: str, *arguments: str, **settings: str) -> str:
        """What a client's program prints."""
        own = {"P2R_URL": self.url, "OPENAI_API_KEY": KEY, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        return guest_tools.run_python(guest, *arguments, cwd=self.here, **own, **settings).stdout

    def run_script(self, script: str) -> Any:  # noqa: ANN401
        """What a script finds out for each question, which it prints as its last line."""
        path = self.here / "script.py"
        path.write_text(READ_QUESTIONS + script + "\nprint(json.dumps(found))\n")
        said = self.run("clients", str(path))
        try:
            return json.loads(said.splitlines()[-1])
        except (IndexError, ValueError):
            raise AssertionError(said) from None


READ_QUESTIONS = """
import json, os
found, url = [], os.environ["P2R_URL"]
questions = json.load(open("questions.json"))
def message(asked):
    image = {"type": "image_url", "image_url": {"url": asked["url"]}}
    return {"role": "user", "content": [{"type": "text", "text": asked["question"]}, image]}
"""


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    here = tmp_path_factory.mktemp("clients")
    offline, answers = P2R("nano"), list[str]()
    questions: list[dict[str, str]] = []
    for number, sample in enumerate(SAMPLES):
        image = sample.image.load()
        image.save(here / f"{number}.png")
        questions.append({"question": sample.question, "url": data_url(image), "image": str(here / f"{number}.png")})
        trace = offline.ask(image, sample.question)
        assert trace.answer is not None and trace.answer.text
        answers.append(trace.answer.text)
    assert len(set(answers)) == len(answers)
    (here / "questions.json").write_text(json.dumps(questions))
    with serve(load_model("nano"), access=Access(keys=(KEY,))) as served:
        yield Asked(served, here, answers)


@pytest.fixture
def clients(asked: Asked) -> Asked:
    guest_tools.require_package("clients", "litellm")
    return asked


def test_litellm(clients: Asked) -> None:
    found = clients.run_script("""
import litellm
for asked in questions:
    ask = dict(model="openai/p2r/m", api_base=url, messages=[message(asked)])
    whole = litellm.completion(**ask)
    chunks = list(litellm.completion(**ask, stream=True))
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    found.append([whole.choices[0].message.content, streamed, whole.choices[0].message.reasoning_content])
""")
    assert [each[:2] for each in found] == [[answer, answer] for answer in clients.answers]
    assert all(each[2] for each in found)


def test_langchain(clients: Asked) -> None:
    found = clients.run_script("""
from langchain_openai import ChatOpenAI
model = ChatOpenAI(model="p2r/m", base_url=url)
for asked in questions:
    whole = model.invoke([message(asked)])
    streamed = "".join(chunk.content for chunk in model.stream([message(asked)]))
    found.append([whole.content, streamed, whole.usage_metadata["total_tokens"] > 0])
""")
    assert found == [[answer, answer, True] for answer in clients.answers]


def test_llm(clients: Asked) -> None:
    home = clients.here / "llm"
    home.mkdir()
    entry = f"- model_id: looks\n  model_name: p2r/m\n  api_base: {clients.url}\n  api_key_name: p2r\n  vision: true\n"
    (home / "extra-openai-models.yaml").write_text(entry)
    (home / "keys.json").write_text(json.dumps({"p2r": KEY}))
    for number, (sample, answer) in enumerate(zip(SAMPLES, clients.answers, strict=True)):
        more = ("--no-stream",) if number else ()
        call = ("-m", "llm", "-m", "looks", "-a", f"{number}.png", sample.question, *more)
        assert clients.run("clients", *call, LLM_USER_PATH=str(home)).strip() == answer


def test_inspect_by_its_openai_backend(asked: Asked) -> None:
    guest_tools.require_package("inspect_ai", "inspect_ai")
    (asked.here / "task.py").write_text("""
import json
from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessageUser, ContentImage, ContentText
@task
def needles():
    def show(asked):
        content = [ContentText(text=asked["question"]), ContentImage(image=asked["image"])]
        return Sample(input=[ChatMessageUser(content=content)])
    return Task(dataset=[show(asked) for asked in json.load(open("questions.json"))])
""")
    settings = {"INSPECT_LOG_DIR": "logs", "INSPECT_LOG_FORMAT": "json", "INSPECT_DISPLAY": "plain"}
    address = {"P2R_BASE_URL": asked.url, "P2R_API_KEY": KEY}
    call = ("-m", "inspect_ai", "eval", "task.py", "--model", "openai-api/p2r/p2r/m")
    said = asked.run("inspect_ai", *call, **settings, **address)
    (log,) = (asked.here / "logs").glob("*.json")
    samples = json.loads(log.read_text(encoding="utf-8"))["samples"]
    assert [sample["output"]["completion"] for sample in samples] == asked.answers, said


def test_lmms_eval_by_its_openai_backend(asked: Asked) -> None:
    guest_tools.require_package("lmms_eval", "lmms_eval")
    tasks = asked.here / "tasks"
    tasks.mkdir()
    (asked.here / "rows.json").write_text(json.dumps([{"number": number} for number in range(len(SAMPLES))]))
    (tasks / "functions.py").write_text(f"""
import json
from PIL import Image
QUESTIONS = json.load(open({str(asked.here / "questions.json")!r}))
def show(doc):
    return [Image.open(QUESTIONS[doc["number"]]["image"])]
def write(doc, lmms_eval_specific_kwargs=None):
    return QUESTIONS[doc["number"]]["question"]
def judge(doc, results):
    return {{"right": 1.0}}
""")
    (tasks / "needles_task.yaml").write_text(f"""
task: needles_task
dataset_path: json
dataset_kwargs:
  data_files:
    test: {asked.here / "rows.json"}
test_split: test
output_type: generate_until
doc_to_visual: !function functions.show
doc_to_text: !function functions.write
doc_to_target: number
process_results: !function functions.judge
generation_kwargs:
  max_new_tokens: 64
metric_list:
  - metric: right
    aggregation: mean
    higher_is_better: true
""")
    call = ("--model", "openai", "--model_args", f"model_version=p2r/m,base_url={asked.url}", "--include_path", "tasks")
    more = ("--tasks", "needles_task", "--output_path", "out", "--log_samples")
    said = asked.run("lmms_eval", "-m", "lmms_eval", *call, *more)
    logs = list((asked.here / "out").rglob("*_samples_*.jsonl"))
    assert logs, said
    lines = logs[0].read_text().splitlines()
    samples = sorted(map(json.loads, lines), key=lambda sample: sample["doc_id"])
    assert [sample["filtered_resps"] for sample in samples] == asked.answers, said
