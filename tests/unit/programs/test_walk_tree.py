"""What programs may do: compute, name values, choose, go through lists, and define functions; as Python does."""

from __future__ import annotations

import pytest
from PIL import Image

from p2r.programs.run_programs import run_programs

PATH = "/mnt/data/image.png"
IMAGE = Image.new("RGB", (100, 80), "gray")

PRINTED = {
    "print(7 // 2, 7 % 2, -7, +7, 2 ** 3, 2 ** -1, 7 / 2)": "3 1 -7 7 8 0.5 3.5",
    "print(1, 'a', None, True, [1, 2.5], (3,), {'b': 4}, sep='|')": "1|a|None|True|[1, 2.5]|(3,)|{'b': 4}",
    "x = y = 3\nx += 2\nz: int = x * y\nprint(x, y, z)": "5 3 15",
    "a, (b, c) = 1, [2, 3]\nprint(c, b, a)": "3 2 1",
    "print('ab' + 'c', 'ab' * 2, [1] + [2], 2 * [0])": "abc abab [1, 2] [0, 0]",
    "if 1 < 2 <= 2 and not 3 == 4:\n    print('yes')\nelse:\n    print('no')": "yes",
    "print(0 or 'b', 1 and 2, None is None, 1 in [1], 'z' not in 'abc', 5 if 0 else 6)": "b 2 True True True 6",
    "t = 0\nfor i in range(9):\n    if i == 2:\n        continue\n    if i > 4:\n        break\n    t += i\nprint(t)": (
        "8"
    ),
    "for i, (a, b) in enumerate(zip([1, 2], 'xy')):\n    print(i, a, b)": "0 1 x\n1 2 y",
    "k = 3\nprint([i * k for i in range(4) if i], sum(i for i in [1, 2]))": "[3, 6, 9] 3",
    "def f(a, b=2, *, c=1):\n    return a\nprint(f(1))": "",
    "def f(a, b=2):\n    c = a * b\n    return c\nprint(f(3), f(3, b=5), f(*[1, 4]))": "6 15 4",
    "def f(n):\n    return 1 if n < 2 else n * f(n - 1)\nprint(f(5))": "120",
    "def f():\n    x = 2\nx = 1\nf()\nprint(x, f())": "1 None",
    "d = {'a': [1, 2]}\nprint(d['a'][-1], d['a'][:1], 'hello'[1:3], d.get('z', 9), len(d))": "2 [1] el 9 1",
    "print([*map(int, ['1', '2'])], tuple([1]), sorted([2, 1], reverse=True), divmod(7, 2))": (
        "[1, 2] (1,) [2, 1] (3, 1)"
    ),
    "import math as m\nfrom math import sqrt, pi\nprint(m.floor(2.5), sqrt(9), round(pi, 2), abs(-1), max(1, 2))": (
        "2 3.0 3.14 1 2"
    ),
    "x = 3.14159\nprint(f'{x:.2f}|{x!s}|{7:>4}|{1234567:,}')": "3.14|3.14159|   7|1,234,567",
    "try:\n    print(1 / 0)\nexcept ZeroDivisionError as e:\n    print('no:', e)": "no: division by zero",
    "x = []\nx.append(4)\nprint(x, ' A-b '.strip().lower().replace('-', '+').split('+'))": "[4] ['a', 'b']",
    "import os\nprint(os.path.join('a', 'b.png'), os.path.splitext('c/d.png')[0], os.path.exists('x'))": (
        "a/b.png c/d False"
    ),
    "import os\nprint(os.path.basename(image_path), os.path.exists(image_path), os.makedirs('x', exist_ok=True))": (
        "image.png True None"
    ),
    "from PIL import Image\nwith Image.open(image_path) as im:\n    print(im.size, im.width, im.height, im.mode)": (
        "(100, 80) 100 80 RGB"
    ),
    "image = cv2.imread(image_path)\nh, w = image.shape[:2]\nprint(h, w, image.size, image is None)": (
        "80 100 24000 False"
    ),
    "print(cv2.imread('nothing.png'))": "None",
    "print(int(3.9), float('2'), str(5) + '!', any([0, 1]), all([]), min([3, 2]))": "3 2.0 5! True True 2",
    "if __name__ == '__main__':\n    print('main')": "main",
    "i = 0\nwhile True:\n    i += 1\n    if i == 2:\n        continue\n    if i > 3:\n        break\nprint(i)": "4",
    "i = 3\nwhile i:\n    i -= 1\nprint(i)": "0",
    "try:\n    x = 1\nexcept Exception:\n    x = 2\nelse:\n    x += 4\nfinally:\n    print(x)": "5",
    "try:\n    x = 1 / 0\nexcept Exception:\n    x = 2\nelse:\n    x = 3\nfinally:\n    print(x)": "2",
    "a = [[1, 2], [3, 4]]\na[1][0] = 5\na[0, 1] += 7\nd = {}\nd['k'] = a[1, 0]\nprint(a, d)": (
        "[[1, 9], [5, 4]] {'k': 5}"
    ),
    "d = {(1, 2): 3}\nd[1, 2] += 4\nprint(d[1, 2])": "7",
    "im = Image.open(image_path).resize((8000, 8000))\nfor _ in range(2):\n    im.save('a.png')\nprint(1)": "1",
    "b = [(3, 1), (1, 2)]\nprint(sorted(b, key=lambda x: x[1], reverse=True), max(b, key=lambda x: x[0]), min(b))": (
        "[(1, 2), (3, 1)] (3, 1) (1, 2)"
    ),
    "f = lambda x, y=2: x * y\nprint(f(2), [*map(f, [1, 2])], sorted([2, 1], key=None))": "4 [2, 4] [1, 2]",
    "w = 3\nprint(f'{w=}', f'{\"a\"!r}', '%d of %.1f%%' % (1, 2), '{}x{:.1f} {0} {n:>3} {{}}'.format(1, 2, n=4))": (
        "w=3 'a' 1 of 2.0% 1x2.0 1   4 {}"
    ),
    "a = [2, 1]\na.extend([5])\na.insert(0, 9)\na.sort()\na.reverse()\nprint(a.pop(), a, a.index(5), a.count(2))": (
        "1 [9, 5, 2] 1 1"
    ),
    "import numpy as np\nprint(np.array([1, 2]) + np.array([3, 4]), np.mean([1, 2]), np.max([1, 2]), np.sqrt(4))": (
        "[4 6] 1.5 2 2.0"
    ),
    "import re, sys, json, time, uuid\nfrom typing import List\nprint(len(uuid.uuid4().hex), int(time.time()) > 0)": (
        "32 True"
    ),
    "import random, string\nprint(len(''.join(random.choices(string.ascii_letters, k=6))), random.randint(3, 3))": (
        "6 3"
    ),
}
WRONG = {
    "print(x)": "the name 'x' is not defined",
    "a, b = [1, 2, 3]": "the values do not fit the names: 3 for 2",
    "print('a' - 'b')": "Sub of str and str is not offered here",
    "print(None + 1)": "Add of nothing and int is not offered here",
    "print(5[0])": "int has no items",
    "for x in 5:\n    print(x)": "what is gone through is not a list",
    "x = 1\nx()": "what is called is not a function",
    "def f(a):\n    return a\nprint(f())": "f is called without a",
    "def f(a):\n    return a\nprint(f(1, 2))": "f is not called as it is defined",
    "def f(a):\n    return a\nprint(f(1, a=2))": "f is not called as it is defined",
    "print(math.nothing)": "math.nothing is not offered here",
    "print([1][1.5:2])": "the ends of a part are not whole numbers",
    "print(f'{1:1000000000}')": "the format '1000000000' is not offered here",
    "def f():\n    return f()\nprint(f())": "more than 20 calls within each other are not offered here",
    "print('{x.y}'.format(x=1))": "the fields of a text are {}, {0}, {name}, and these with a format",
    "print('%*d' % (9, 1))": "Mod of str and tuple is not offered here",
    "x = (1, 2)\nx[0] = 3": "an item of tuple cannot be given a value",
    "x = [1, 2]\nx[0:1] = [3]": "an item of list cannot be given a value",
    "import time\ntime.sleep(5)": "time.sleep is not offered here",
    "x = (": "the program is not Python: '(' was never closed (<unknown>, line 1)",
    "x = 1": "the program shows nothing: print a result, or a path of an image",
}


def run(*programs: str, as_released: bool = False) -> tuple[object, ...]:
    found = run_programs(programs, IMAGE, PATH, as_released=as_released)
    return (*found.shown, found.error)


@pytest.mark.parametrize(("code", "printed"), [(code, printed) for code, printed in PRINTED.items() if printed])
def test_a_program_prints_what_python_would(code: str, printed: str) -> None:
    assert run(code) == (printed, "")


@pytest.mark.parametrize(("code", "error"), WRONG.items())
def test_what_is_wrong_is_said(code: str, error: str) -> None:
    assert run(code) == (error,)


def test_arguments_by_name_alone_are_not_offered() -> None:
    assert run("def f(a, *, c=1):\n    return a\nprint(f(1))") == ("f is not called as it is defined",)


def test_names_and_images_stay_for_the_next_program() -> None:
    first = "from PIL import ImageOps\nx = 2\nImage.open(image_path).crop((0, 0, 9, 9)).save('/tmp/a.png')\nprint(1)"
    assert run(first, "print(x, ImageOps.invert(Image.open('/tmp/a.png')).size)") == ("2 (9, 9)", "")


@pytest.mark.parametrize(
    "code",
    [
        "k = 3\nprint([i * k for i in range(3)])",
        "k = 3\ndef f():\n    return k\nprint(f())",
        "def f():\n    return 1\ndef g():\n    return f()\nprint(g())",
        "print('sys.argv')",
    ],
)
def test_the_released_walk_has_the_slips_of_exec(code: str) -> None:
    assert run(code)[-1] == ""
    assert run(code, as_released=True)[-1] != ""


def test_the_first_line_is_indented_as_the_second_where_that_is_no_python_otherwise() -> None:
    assert run("    x = 4\nprint(x)") == ("4", "")
    assert run("x = 4\n    y = 5\n    print(x + y)") == ("9", "")
    block = "if True:\n    print(1)"
    assert run(block) == ("1", "")
    assert "not Python" in str(run(block, as_released=True))


def test_a_number_is_written_with_eight_digits_as_released() -> None:
    assert run("print(f'{2/3:.1f}')") == ("0.7", "")
    assert run("print(f'{2/3:.1f}')", as_released=True) == ("0.66666667", "")


@pytest.mark.parametrize(
    ("line", "size"),
    [
        ("x1, y1, x2, y2 = 90, 70, 300, 300\n", (64, 64)),
        ("left, top, right, bottom = 10, 10, 90, 79\nx1, y1, x2, y2 = left, top, right, bottom\n", (80, 69)),
        ("bbox = (90, 70, 300, 300)\nx1, y1, x2, y2 = bbox\n", (64, 64)),
        ("a, b, c, d = 90, 70, 300, 300\nx1, y1, x2, y2 = a, b, c, d\n", (210, 230)),
        ("window = (90, 70, 300, 300)\nx1, y1, x2, y2 = window\n", (210, 230)),
        ("box = [90, 70, 300, 300]\nx1, y1, x2, y2 = box\n", (210, 230)),
        ("x1, y1, x2, y2 = -5, -5, 300, 300\n", (305, 305)),
    ],
)
def test_boxes_of_four_numbers_are_clamped_where_their_name_says_so(line: str, size: tuple[int, int]) -> None:
    assert run(f"{line}print(Image.open(image_path).crop((x1, y1, x2, y2)).size)") == (str(size), "")


def test_an_invented_path_of_the_image_is_replaced() -> None:
    assert run("image_path = '/data/invented.jpg'\nprint(Image.open(image_path).size)") == ("(100, 80)", "")
    assert (
        run("path = '/data/invented.jpg'\nprint(Image.open(path).size)")[0] == "there is no file '/data/invented.jpg'"
    )


SAVE = "def save(name):\n    Image.open(image_path).save(name)\n"
TEMP = "/mnt/data/temp_processed_images"


@pytest.mark.parametrize(
    ("code", "num_images"),
    [
        (f"{SAVE}save('{TEMP}/a.png')\nprint('Saved:', '{TEMP}/a.png.')", 1),
        (f"{SAVE}save('{TEMP}/a.png')\nsave('{TEMP}/b.png')\nprint('{TEMP}/b.png')", 1),
        (f"{SAVE}save('{TEMP}/a.png')\nprocessed_path = '{TEMP}/a.png'", 1),
        (f"{SAVE}save('{TEMP}/a.png')\nprint('a.png')", 1),
        (f"{SAVE}save('{TEMP}/a.png')\nprint('{TEMP}/other.png')", 1),
        (f"{SAVE}save('{TEMP}/a.png')\nsave('{TEMP}/b.png')\nprint('{TEMP}/other.png')", 0),
        (f"{SAVE}save('{TEMP}/a.png')\nprint('done')", 0),
        (f"{SAVE}save('/home/a.png')\nprint('/home/a.png')", 1),
        (f"{SAVE}save('{TEMP}/my image.PNG')\nprocessed_path = '{TEMP}/my image.PNG'", 1),
    ],
)
def test_images_are_shown_whose_paths_are_printed_or_named(code: str, num_images: int) -> None:
    *shown, error = run(code)
    assert (len(shown), error == "") == (num_images, num_images > 0)
    assert all(not isinstance(made, str) for made in shown)


def test_the_path_of_an_earlier_program_is_not_shown_again() -> None:
    first = f"{SAVE}processed_path = '{TEMP}/a.png'\nsave(processed_path)"
    assert run(first, "print(5)") == ("5", "")
