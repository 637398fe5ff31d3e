"""Units by meaning: 5 m is 5 metres and 500 cm; 5 m is not 5 kg.

A table of those that occur in images. A registry of all units (pint) reads counted things as units ("points", "hands",
"C") and would call 3 points a length. A name that is not in the table is a thing that is counted, and differs from
nothing.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple


class Unit(NamedTuple):
    """A meaning of a name. A value v is v * factor + offset in the dimension's first unit."""

    dimension: str
    factor: Fraction
    offset: Fraction = Fraction(0)


def find_unit(text: str) -> tuple[tuple[Unit, ...], int]:
    """Read the unit that a text begins with.

    Returns:
        All its meanings ("pounds" are two), and the characters it takes; (), 0 when it begins with none.
    """
    for candidate in reversed(_prefixes(text)):
        is_preposition = candidate.endswith("in") and re.match(r"\s+[A-Za-z]", text[len(candidate) :])  # 5 in total
        if not is_preposition and (units := read_unit(candidate)):
            return units, len(candidate)
    return (), 0


def read_unit(name: str) -> tuple[Unit, ...]:
    """Return all meanings of a unit's name; () when it is not known."""
    name = " ".join(re.sub(r"[\^{}]|(?<=°)\s", "", name.replace(".", " ")).split())
    if units := _look_up(name):
        return units
    top, per, bottom = re.sub(r"\s*(?:/|\bper\b|每)\s*", "/", name).partition("/")
    if per:
        return tuple(
            Unit(f"{over.dimension}/{under.dimension}", over.factor / under.factor)
            for over in read_unit(top)
            for under in read_unit(bottom)
            if not over.offset and "/" not in under.dimension
        )
    for power, pattern in _POWERS.items():
        if match := pattern.fullmatch(name):
            base = [unit for unit in _look_up(match[1] or match[2]) if unit.dimension == "length"]
            return tuple(Unit(f"length^{power}", unit.factor**power) for unit in base)
    return ()


def _look_up(name: str) -> tuple[Unit, ...]:
    folded = name.casefold()
    keys = [name] if len(name) == 1 else [name, folded]  # one letter has its case: m, but 5 M is 5 million
    if len(name) > 3:  # the plural "has" is none
        keys += [folded.removesuffix("s"), folded.removesuffix("es")]
    return next((_NAMES[key] for key in keys if key in _NAMES), ())


def _prefixes(text: str) -> list[str]:
    """List the beginnings of a text that may be a unit: up to four words, and signs such as ° or ″."""
    return [
        text[: match.end()]
        for match in _WORD.finditer(text[:_LONGEST_CHARS])
        if _ONE_UNIT.fullmatch(text[: match.end()])
    ]


_LONGEST_CHARS = 60
_LETTERS = r"[^\W\d_]"
_PIECE = rf"(?:(?:US|HK|NT|[ACS])?\$|[€£¥₹₩¢°℃℉'′\"″]|''|{_LETTERS}+\.?(?:(?:\s{{0,2}}\^)?\{{?[23]\}}?(?!\d)|[²³])?)"
_WORD = re.compile(_PIECE)
_ONE_UNIT = re.compile(rf"{_PIECE}(?:\s{{0,20}}/?\s{{0,20}}{_PIECE}){{0,3}}")
_POWERS = {
    2: re.compile(r"(?:square|sq|平方)\s*(.+)|(.+?)\s*(?:2|²|squared)", re.IGNORECASE),
    3: re.compile(r"(?:cubic|cu|立方)\s*(.+)|(.+?)\s*(?:3|³|cubed)", re.IGNORECASE),
}

# For each dimension, the size of a unit and its names. Small and capital letters count where both are names.
_TABLE: dict[str, dict[str, str]] = {
    "length": {
        "1": "m meter metre 米 公尺",
        "1000": "km kilometer kilometre kms 公里 千米",
        "1/10": "dm decimeter decimetre",
        "1/100": "cm centimeter centimetre 厘米 公分",
        "1/1000": "mm millimeter millimetre 毫米",
        "1/1000000": "µm μm um micron micrometer micrometre",
        "1/1000000000": "nm nanometer nanometre",
        "0.0254": "in inch inches \" ″ '' 英寸",
        "0.3048": "ft foot feet ' ′ 英尺",
        "0.9144": "yd yds yard",
        "1609.344": "mi mile 英里",
        "1852": "nmi nautical_mile",
    },
    "length^2": {"10000": "ha hectare 公顷", "4046.8564224": "acre", "1": "sqm", "0.09290304": "sqft"},
    "length^3": {
        "1/1000": "l L liter litre 升",
        "1/100000": "cl centiliter centilitre",
        "1/1000000": "ml mL milliliter millilitre cc 毫升",
        "0.003785411784": "gal gallon",
        "0.0000295735295625": "floz fl_oz fluid_ounce",
    },
    "mass": {
        "1": "kg kgs kilo kilogram kilogramme 公斤 千克",
        "1/1000": "g gr gram gramme 克",
        "1/1000000": "mg milligram 毫克",
        "1000": "t tonne metric_ton ton 吨",
        "0.45359237": "lb lbs pound",
        "0.028349523125": "oz ounce",
        "1/2": "斤",
    },
    "time": {
        "1": "s sec second 秒",
        "1/1000": "ms msec millisecond",
        "60": "min mins minute 分钟",
        "3600": "h hr hrs hour 小时",
        "86400": "d day 天 日",
        "604800": "wk week 周 星期",
    },
    "months": {"1": "month mo 个月", "12": "year yr 年"},
    "angle": {"1": "° deg degree 度", "1/60": "arcminute"},
    "celsius": {
        "1": "°C °c ℃ C celsius centigrade degree_celsius degrees_celsius degrees_centigrade deg_C degree_C degrees_C"
        " 摄氏度 ° degree 度",
    },
    "length/time": {"5/18": "kmh kph km/h kmph", "0.44704": "mph", "0.514444": "knot kn"},
    "usd": {"1": "$ US$ USD dollar us_dollar 美元", "1/100": "¢ cent"},
    "cad": {"1": "$ C$ CAD dollar canadian_dollar", "1/100": "¢ cent"},
    "aud": {"1": "$ A$ AUD dollar australian_dollar", "1/100": "¢ cent"},
    "hkd": {"1": "$ HK$ HKD dollar 港元"},
    "eur": {"1": "€ EUR euro 欧元", "1/100": "cent"},
    "gbp": {"1": "£ GBP pound pound_sterling pounds_sterling 英镑", "1/100": "penny pence"},
    "cny": {"1": "¥ CNY RMB yuan renminbi 元 块 人民币"},
    "jpy": {"1": "¥ JPY yen 円 日元"},
    "inr": {"1": "₹ INR Rs rupee"},
    "krw": {"1": "₩ KRW won"},
    "chf": {"1": "CHF franc swiss_franc"},
    "data": {
        "1": "byte",
        "1000": "KB kB kilobyte",
        "1000000": "MB megabyte",
        "1000000000": "GB gigabyte",
        "1000000000000": "TB terabyte",
    },
    "voltage": {"1": "V volt", "1000": "kV kilovolt", "1/1000": "mV millivolt"},
    "current": {"1": "A amp ampere", "1/1000": "mA milliamp milliampere"},
    "charge": {"1": "Ah", "1/1000": "mAh"},
    "power": {
        "1": "W watt",
        "1000": "kW kilowatt",
        "1000000": "MW megawatt",
        "1/1000": "mW milliwatt",
        "745.7": "hp horsepower",
    },
    "energy": {"1": "J joule", "1000": "kJ kilojoule", "3600000": "kWh kilowatt_hour", "4184": "kcal calorie Cal"},
    "frequency": {"1": "Hz hertz", "1000": "kHz kilohertz", "1000000": "MHz megahertz", "1000000000": "GHz gigahertz"},
    "pressure": {"1": "Pa pascal", "1000": "kPa kilopascal", "100000": "bar", "6894.757": "psi"},
}  # fmt: skip
_FAHRENHEIT = "°F °f ℉ F fahrenheit degree_fahrenheit degrees_fahrenheit deg_F degree_F degrees_F 华氏度 ° degree"
_KELVIN = "K kelvin"


def _make_names() -> dict[str, tuple[Unit, ...]]:
    found: dict[str, list[Unit]] = {}
    for dimension, sizes in _TABLE.items():
        for factor, names in sizes.items():
            for name in names.split():
                found.setdefault(name.replace("_", " "), []).append(Unit(dimension, Fraction(factor)))
    for name in _FAHRENHEIT.split():
        unit = Unit("celsius", Fraction(5, 9), Fraction(-160, 9))
        found.setdefault(name.replace("_", " "), []).append(unit)
    for name in _KELVIN.split():
        found.setdefault(name, []).append(Unit("celsius", Fraction(1), Fraction("-273.15")))
    for name in list(found):
        if len(name) > 1:
            found.setdefault(name.casefold(), found[name])
    return {name: tuple(units) for name, units in found.items()}


_NAMES = _make_names()
