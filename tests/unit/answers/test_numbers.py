"""Numbers: what is one, which value it has, and what only looks like one."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2r.answers import extract_answer
from p2r.answers.numbers import explain_refusal, find_number, read_number
from p2r.answers.numbers.formula import calculate
from p2r.answers.numbers.units import find_unit, read_unit
from p2r.answers.numbers.words import _TEENS, _TENS, SMALL_NUMBERS, read_chinese, read_words


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("zero", 0),
        ("twelve", 12),
        ("seventy-eight", 78),
        ("seventy eight", 78),
        ("Four hundred and six", 406),
        ("nine hundred ninety-nine thousand nine hundred ninety-nine", 999_999),
        ("two million one", 2_000_001),
        ("twelve hundred", 1200),
        ("a hundred", 100),
        ("two dozen", 24),
        ("half", Fraction(1, 2)),
        ("half a million", 500_000),
        ("three quarters", Fraction(3, 4)),
        ("two and a half", Fraction(5, 2)),
        ("two point five", Fraction(5, 2)),
        ("zero point zero five", Fraction(1, 20)),
    ],
)
def test_number_words_have_a_value(text: str, value: Fraction | int) -> None:
    assert read_words(text) == value


@pytest.mark.parametrize(
    ("text", "place"),
    [("1st", 1), ("first", 1), ("the 3rd", 3), ("twelfth", 12), ("twentieth", 20), ("twenty-first", 21), ("42nd", 42)],
)
def test_an_ordinal_alone_is_its_place(text: str, place: int) -> None:
    number = read_number(text)
    assert number and number.value == place


@pytest.mark.parametrize(
    "text",
    [
        "one two",
        "one two and a half",
        "one two point five",
        "twenty twelve",
        "five and six",
        "hundred",
        "thousand million",
        "twenty zero",
        "million two",
    ],
)
def test_words_that_make_no_single_number_have_none(text: str) -> None:
    assert read_words(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("三", 3),
        ("十", 10),
        ("十二", 12),
        ("二十", 20),
        ("一百零五", 105),
        ("两千三百", 2300),
        ("一万二千", 12_000),
        ("二〇二四", 2024),
        ("三亿", 300_000_000),
        ("半", Fraction(1, 2)),
    ],
)
def test_chinese_numerals_have_a_value(text: str, value: Fraction | int) -> None:
    assert read_chinese(text) == value


@given(st.integers(0, 999_999))
def test_every_whole_number_is_read_from_its_words(value: int) -> None:
    assert read_words(spell(value)) == value


def spell(value: int) -> str:
    if value < 20:
        return (SMALL_NUMBERS + _TEENS)[value]
    if value < 100:
        return _TENS[value // 10 - 2] + (f"-{SMALL_NUMBERS[value % 10]}" if value % 10 else "")
    name, size = ("hundred", 100) if value < 1000 else ("thousand", 1000)
    head = f"{spell(value // size)} {name}"
    return f"{head} and {spell(value % size)}" if value % size else head


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("m", "metres"),
        ("Meter", "meters"),
        ("kg", "kgs"),
        ("sq ft", "square feet"),
        ("sq. ft.", "ft²"),
        ("m^2", "square metres"),
        ("m^{2}", "m²"),
        ("cubic metres", "m³"),
        ("mph", "miles per hour"),
        ("km/h", "kilometers per hour"),
        ("°C", "degrees Celsius"),
        ("° C", "℃"),
        ("$", "dollars"),
        ("USD", "$"),
        ("€", "euros"),
        ("元", "yuan"),
        ("inches", '"'),
        ("hrs", "h"),
    ],
)
def test_names_of_one_unit_have_one_meaning(one: str, other: str) -> None:
    assert set(read_unit(one)) & set(read_unit(other))


@pytest.mark.parametrize(
    "name", ["cars", "people", "points", "hands", "has", "", "of", "in total", "per hour", "M", "G"]
)
def test_things_that_are_counted_are_no_units(name: str) -> None:
    assert find_unit(name) == ((), 0)


def test_case_counts_where_both_are_units() -> None:
    assert read_unit("MW") != read_unit("mW")
    assert read_unit("KM") == read_unit("km")


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("5 m", "500 cm"),
        ("1 km", "1,000 metres"),
        ("0 °C", "32 °F"),
        ("300 K", "26.85 °C"),
        ("1 h", "60 min"),
        ("36 km/h", "10 m/s"),
        ("1 m²", "10000 cm²"),
        ("5'10\"", "70 in"),
        ("2 h 30 min", "150 minutes"),
        ("$5", "500 cents"),
        ("5 pounds", "£5"),
        ("5 pounds", "80 oz"),
        ("5 cars", "5 dogs"),
        ("5 m", "5"),
        ("50%", "0.5"),
        ("50%", "50"),
        ("1 GB", "1000 MB"),
        ("2 years", "24 months"),
    ],
)
def test_values_are_equal_by_meaning(a: str, b: str) -> None:
    first, second = read_number(a), read_number(b)
    assert first and second
    assert first.equals(second) and second.equals(first)


@pytest.mark.parametrize(
    ("a", "b"),
    [("5 m", "5 cm"), ("5 m", "5 kg"), ("5 m", "5 m²"), ("$5", "€5"), ("5 °C", "5 °F"), ("50%", "50 kg"),
     ("100 yen", "100 yuan"), ("5 pounds", "5 kg"), ("1", "1.00001"), ("0.000001", "0.000002"), ("0", "0.0000001"),
     ("60 km/h", "60 mph")],
)  # fmt: skip
def test_values_differ_by_meaning(a: str, b: str) -> None:
    first, second = read_number(a), read_number(b)
    assert first and second
    assert not first.equals(second) and not second.equals(first)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("\\frac{1}{2}", Fraction(1, 2)),
        ("1\\frac{1}{2}", Fraction(3, 2)),
        ("2^{10}", 1024),
        ("2^-1", Fraction(1, 2)),
        ("-2^2", -4),
        ("10²", 100),
        ("\\sqrt{16}", 4),
        ("\\sqrt[3]{27}", 3),
        ("√(9/4)", Fraction(3, 2)),
        ("5!", 120),
        ("2(3 + 4)", 14),
        ("6 \\div 4", Fraction(3, 2)),
        ("1 - 2 - 3", -4),
        ("8 / 2 / 2", 2),
        ("2 + 3 * 4", 14),
        ("1,200 * 2", 2400),
    ],
)
def test_formula_is_calculated_exactly(text: str, value: Fraction | int) -> None:
    assert calculate(text) == (value, len(text))


@pytest.mark.parametrize(
    "text", ["1/0", "\\frac{1}{0}", "2 +", "(1 + 2", "x + 1", "9^{9^{9^9}}", "1000000!", "(-1)^{1/2}",
             "\\frac12", "(" * 90, "e", ""],
)  # fmt: skip
def test_what_cannot_be_calculated_is_no_formula(text: str) -> None:
    assert calculate(text) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("4", "4\\sqrt{2}"),
        ("4", "4\\sqrt(2)"),
        ("\\frac{1}{2004!}", "\\frac{1}{2006!}"),
        ("\\frac{1}{2^{99}}", "\\frac{1}{2^{98}}"),
        ("1-\\frac{1}{\\mathrm{e}}", "1+\\frac{1}{\\mathrm{e}}"),
        ("10^{30}", "10^{30}+1"),
        ("2\\pi", "2"),
    ],
)
def test_known_false_positives_of_formula_checkers_differ(one: str, other: str) -> None:
    first, second = read_number(one), read_number(other)
    assert first and second
    assert not first.equals(second)


def test_formulas_that_are_written_in_two_ways_are_equal() -> None:
    for one, other in [
        ("2\\sqrt{3}", "\\sqrt{12}"),
        ("\\frac{\\sqrt{2}}{2}", "\\frac{1}{\\sqrt{2}}"),
        ("3π cm", "3\\pi"),
    ]:
        first, second = read_number(one), read_number(other)
        assert first and second and first.equals(second)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("2023-05-01", "a date"),
        ("05/06", "a date"),
        ("4 March 2021", "a date"),
        ("2024年5月1日", "a date"),
        ("12:30", "a time"),
        ("2 pm", "a time"),
        ("5 o'clock", "a time"),
        ("555-1234", "a telephone number"),
        ("+1 555 123 4567", "a telephone number"),
        ("192.168.0.1", "an address"),
        ("5-6", "a range"),
        ("5 to 6 m", "a range"),
        ("4, 3, 2", "a list"),
        ("3 and 4", "a list"),
        ("5 or 6", "a choice of numbers"),
        ("16:9", "a ratio"),
        ("3 out of 7", "a ratio"),
        ("1920x1080", "a size"),
        ("12B", "a code"),
        ("2x + 1", "a calculation"),
        ("at least 5", "a bound"),
        ("7+", "a bound"),
        ("\\pm 3", "a bound"),
    ],
)
def test_what_only_looks_like_a_number_is_named(text: str, kind: str) -> None:
    assert read_number(text) is None
    assert find_number(text) is None
    assert explain_refusal(text) == f"{kind} and not a number"


@pytest.mark.parametrize("text", ["yes", "", "5 people and 3 dogs", "None of these", "∞"])
def test_other_text_is_just_not_a_number(text: str) -> None:
    assert read_number(text) is None
    assert explain_refusal(text) == "not a number"


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("8 because 3 + 5 = 8", "8"),
        ("5 (2 red and 3 blue)", "5"),
        ("The number is 7, not 8.", "7"),
        ("not 7 but 6", "6"),
        ("There are 8 windows on the 3rd floor.", "8"),
        ("2 red + 3 blue = 5 balls", "5"),
        ("There are 2 red and 3 blue balls, 5 in total", "5"),
        ("It is 25 cm long", "25 cm"),
        ("Room 12 has 4 lamps", "4"),
        ("At 12:30 there are 4 people", "4"),
        ("counting one by one I see 4", "4"),
        ("$5.50 per person", "$5.50"),
        ("There is only one boat", "one"),
        ("I am 100% sure it is 5.", "5"),
        ("9. I see 4 white ones and 5 black ones.", "9"),
        ("Counting: 1, 2, 3. There are 3.", "3"),
        ("5? No, 6.", "6"),
        ("Is it 3.5? No, it is 4.", "4"),
        ("5？不，6。", "6"),
        ("5? Yes.", "5"),
        ("Is it 5? No doubt.", "5"),
        ("不是3，是4", "4"),
        ("不是三个，而是四个", "四"),
        ("并非3而是4", "4"),
        ("是不是3？是", "3"),
        ("In 2019 there were 3.", "3"),
        ("In the year 1999, it had 12 floors.", "12"),
        ("In 2019.", "2019"),
    ],
)
def test_the_number_that_a_sentence_states_is_found(reply: str, text: str) -> None:
    found = find_number(reply)
    assert found and reply[found.start : found.end] == text


@pytest.mark.parametrize(
    "reply",
    [
        "the red one",
        "No one is there.",
        "one by one",
        "There are 2 red boats. There are 3 blue ones.",
        "5? 6?",
        "isn't 5",
        "5? No.",
        "1? 2? No, 3.",
        "不是3",
        "并非3",
        "In 2000 cases there were 3",
        "Built in 2019, 3 years later",
        "In 2019 there were 3 and 4.",
        "Two pairs, i.e. 4 shoes.",
        "7ABC123",
        "The 3rd car is red.",
    ],
)
def test_a_text_that_states_no_number_or_two_has_none(reply: str) -> None:
    assert find_number(reply) is None


@given(st.text("0123456789 .,-+/:()$%=\\{}^!mktone½一二个 ", max_size=40))
def test_what_was_read_is_read_again_the_same(text: str) -> None:
    found = find_number(text)
    if found:
        again = find_number(text[found.start : found.end])
        assert again and again.number.equals(found.number)


@pytest.mark.parametrize(
    "unit",
    [
        "5 ",
        "5-",
        "1/",
        "twenty ",
        "one and ",
        "½",
        "\\frac{1}{",
        "2^",
        "(",
        "9!",
        "5 ft ",
        "1,000,",
        "answer is a. ",
        "answer: no. ",
    ],
)
def test_a_long_hostile_text_is_read_at_once(unit: str) -> None:
    for num_chars in (400, 20_000):
        started = time.process_time()
        extract_answer(unit * (num_chars // len(unit)), "number")
        find_number((unit * 400)[:400])
        assert time.process_time() - started < 0.5
