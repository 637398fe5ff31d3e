"""Patterns of what has digits but is not a number: dates, times, addresses, and telephone numbers."""

from __future__ import annotations

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?"
    r"|nov(?:ember)?|dec(?:ember)?)\b\.?"
)
_DAY = r"\d{1,2}(?:st|nd|rd|th)?\b"
DATE = (
    # 2023-05-01, 01.05.2023, 5/1/23, 5/2023, 05/06
    r"\b\d{4}[-/.]\d{1,2}[-/.]\d{1,2}\b|\b\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d\d)\b(?![.\d])"
    r"|\b\d{1,2}/(?:19|20)\d\d\b|\b0\d/\d\d?\b|\b\d\d?/0\d\b"
    # 1 May 2023, May 1st, May 2023
    rf"|\b{_DAY}\s(?:of\s)?{_MONTH}(?:,?\s\d{{4}}\b)?|\b{_MONTH}\s{_DAY}(?:,?\s\d{{4}}\b)?|\b{_MONTH}\s(?:19|20)\d\d\b"
    r"|\d{2,4}年(?:\d{1,2}月)?(?:\d{1,2}[日号])?|\d{1,2}月\d{1,2}[日号]"
)
TIME = (
    # 12:30, 12:30:05 pm, 2 pm, 5 o'clock, 3点半
    r"\b\d{1,2}(?::[0-5]\d){1,2}(?![\d:])(?:\s?[ap]\.?m\b\.?)?|\b\d{1,2}(?:\.\d\d)?\s?[ap]\.?m\b\.?"
    r"|\b\d{1,2}\so'?clock\b|\d{1,2}[点點时時](?:\d{1,2}分|半)?(?!间)"
)
ADDRESS = r"(?<![\w.])v?\d+(?:\.\d+){2,}(?![\w.]*\d)"
"""An IP address, or a version."""
TELEPHONE = (
    # +1 555 123 4567, (555) 123-4567, 555-1234, 010-12345678
    r"(?<![\w+])\+\d[\d\s().-]{5,20}\d\b|(?<!\w)\(?\d{3}\)?[\s.-]\s?\d{3}[\s.-]\d{4}\b"
    r"|(?<![\w-])\d{3}-\d{4}\b(?!-)|(?<![\w-])\d{3,4}-\d{7,8}\b"
)
