"""Programs of a hostile model: what they reach for is not there, and what they blow up stays small."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from p2r.programs.run_programs import Outcome, run_programs

PATH = "/mnt/data/image.png"
IMAGE = Image.effect_noise((400, 300), 50).convert("RGB")

NOT_THERE = {
    "a command": "import os\nos.system('id')",
    "a command's name": "from os import system\nsystem('id')",
    "everything of os": "from os import *\nprint(1)",
    "an import by a call": "__import__('os').system('id')",
    "an import of a module": "import importlib\nprint(1)",
    "a module beside it": "from . import child\nprint(1)",
    "all classes": "print(().__class__.__base__.__subclasses__())",
    "a class by a method": "print(str.mro())",
    "the names of a function": "def f():\n    return 1\nprint(f.__globals__)",
    "the names of an offered function": "print(Image.open.__globals__)",
    "a field of an image": "print(cv2.imread(image_path).pixels)",
    "the memory of an array": "print(cv2.imread(image_path).__array_interface__)",
    "numpy's C": "print(np.ctypeslib)",
    "numpy's files": "np.load('/etc/passwd')",
    "Pillow's core": "print(Image.core)",
    "a module that random uses": "print(random._os)",
    "a class of string": "print(string.Formatter)",
    "the environment": "print(os.environ)",
    "a file": "print(open('/etc/passwd').read())",
    "a file as an image": "print(Image.open('/etc/passwd').size)",
    "a file beside the image": "print(Image.open(image_path + '/../../../etc/passwd').size)",
    "a file that is no image": "Image.open(image_path).save('/tmp/x.py')",
    "eval": "print(eval('1+1'))",
    "getattr": "print(getattr(os, 'system'))",
    "globals": "print(globals())",
    "a field through a format": "print('{0.__class__}'.format(1))",
    "the end of the process": "raise SystemExit",
    "a class": "class A:\n    pass\nprint(1)",
    "a decorator": "@print\ndef f():\n    pass\nprint(1)",
    "the names of a lambda": "print((lambda: 1).__globals__)",
    "a program that sys runs": "import sys\nprint(sys.modules)",
    "an assignment to a module": "Image.open = print\nprint(1)",
    "a coroutine": "async def f():\n    pass\nprint(1)",
    "an item as a function": "print([print][0].__self__)",
    "a key that calls": "print(max([2, 1], key=len))",
}
TOO_LARGE = {
    "a power": "print(9**9**9)",
    "a power by a call": "print(pow(7, 10**9))",
    "a square of squares": "x = 2\nfor i in range(100):\n    x = x * x\nprint(x)",
    "a product": f"x = 1\nfor i in range(9999):\n    x = x * {'9' * 300}\nprint(x)",
    "a shift": "print(1 << 10**9)",
    "rounding": "print(round(5, -10**9))",
    "digits": "print(int('9' * 19000))",
    "a complex number": "print((-1)**0.5)",
    "a text": "print('a' * 10**9)",
    "a text from the left": "print(10**9 * 'a')",
    "a list": "x = [0] * 10**9\nprint(1)",
    "a tuple": "x = (0,) * 10**9\nprint(1)",
    "a joined text": "print(('a' * 10000).join(['b'] * 10000))",
    "a replaced text": "print(('a' * 9000).replace('', 'bb' * 4000))",
    "a width": "print(f'{1:1000000000}')",
    "a width in a name": "w = 10**9\nprint(f'{1:{w}}')",
    "a percent format": "print('%1000000000d' % 1)",
    "a list in lists": "x = [0]\nfor i in range(60):\n    x = [x, x]\nprint(1)",
    "a list in itself": "x = []\nx.append(x)\nprint(x)",
    "a list that doubles": "x = [0]\nfor i in range(60):\n    x = x + x\nprint(1)",
    "a range": "print(len(range(10**12)))",
    "a loop": "while True: pass",
    "a call of itself": "def f(n):\n    return f(n + 1)\nprint(f(0))",
    "calls of each other": "def f(n):\n    return g(n)\ndef g(n):\n    return f(n)\nprint(f(0))",
    "steps": "for i in range(9999):\n    for j in range(99):\n        x = 1\nprint(1)",
    "a loop of nothing": "while 1:\n    try:\n        pass\n    except Exception:\n        pass",
    "a loop that cleans up": "try:\n    while 1: pass\nfinally:\n    while 1: pass",
    "a key that grows its list": "a = [1]\nmax(a, key=lambda x: a.append(1) or 1)\nprint(1)",
    "a field many times": "print(('{0}' * 5000).format('a' * 9000))",
    "a lambda of itself": "f = lambda: f()\nprint(f())",
    "printing": "for i in range(2000):\n    print('a' * 99)",
    "many images": "for i in range(99):\n    Image.open(image_path).save(f'/tmp/{i}.png')\nprint(1)",
    "large images": "x = Image.open(image_path).resize((7000, 7000))\n"
    "for i in range(3):\n    x.save(f'/tmp/{i}.png')\nprint(1)",
    "a resized image": "Image.open(image_path).resize((10**6, 10**6))",
    "a resized array": "cv2.resize(cv2.imread(image_path), None, fx=10**5, fy=10**5)",
    "a wide crop": "Image.open(image_path).crop((-10**6, -10**6, 10**6, 10**6))",
    "an array": "x = np.ones((10**5, 10**5))",
    "an array of objects": "x = np.ones((3, 3), 'object')\nprint(x)",
    "an array of texts": "x = np.ones((3, 3)).astype('U1000000000')",
    "an outer product": "x = np.ones((9999, 1)) * np.ones((1, 9999))\nprint(1)",
    "a moved image": "cv2.warpAffine(cv2.imread(image_path), [[1, 0, 0], [0, 1, 0]], (10**5, 10**5))",
    "a kernel": "cv2.filter2D(cv2.imread(image_path), -1, np.ones((99, 99)))",
    "a turned image": "Image.open(image_path).resize((6000, 6000)).rotate(45, expand=True)",
    "nested parentheses": f"print({'(' * 5000}1{')' * 5000})",
    "a long sum": f"print({'1+' * 9000}1)",
    "many signs": f"print({'-' * 9000}1)",
    "a long program": "x = 1\n" * 5000,
}


@pytest.mark.parametrize("code", [pytest.param(code, id=name) for name, code in (NOT_THERE | TOO_LARGE).items()])
def test_an_attack_is_an_error(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = run_programs([code], IMAGE, PATH)
    assert found.error and found == Outcome(error=found.error)
    assert not [*tmp_path.iterdir()]


def test_an_error_is_short() -> None:
    assert len(run_programs([f"print({'a' * 9000})"], IMAGE, PATH).error) == 500


def test_a_try_does_not_outlive_the_limit_of_steps() -> None:
    code = "for i in range(9999):\n    try:\n        for j in range(99): x = 1\n    except Exception: pass"
    assert "steps" in run_programs([code], IMAGE, PATH).error
