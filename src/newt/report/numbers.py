"""Numbers as people read them. Everything accepts None and NaN and then answers an en dash."""

from __future__ import annotations

import math
from typing import Any

NONE = "–"


def finite(value: Any) -> float | None:
    """The value as a float, or None when it is not a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def count(value: Any) -> str:
    """A whole number with thousands separators: ``12,345``."""
    number = finite(value)
    return NONE if number is None else f"{round(number):,}"


def compact(value: Any) -> str:
    """Three significant digits and a unit: ``950``, ``12.3k``, ``4.56M``, ``1.2B``."""
    number = finite(value)
    if number is None:
        return NONE
    scaled, units = number, iter(("", "k", "M", "B", "T"))
    unit = next(units)
    while abs(float(f"{scaled:.3g}")) >= 1000 and unit != "T":
        scaled, unit = scaled / 1000, next(units)
    return _plain(f"{scaled:.3g}") + unit


def short(value: Any) -> str:
    """Four significant digits: ``1.313``, ``12,345``, ``2e-4``."""
    number = finite(value)
    if number is None:
        return NONE
    size = abs(number)
    if size >= 10_000:
        return f"{number:,.0f}"
    if 0 < size < 0.001:
        mantissa, exponent = f"{number:.2e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    return _plain(f"{number:.4g}")


def percent(part: Any, whole: Any) -> str:
    """A share: ``38 %``, ``1.8 %``, ``<0.1 %``."""
    top, bottom = finite(part), finite(whole)
    if top is None or not bottom:
        return NONE
    share = 100 * top / bottom
    if 0 < share < 0.1:
        return "<0.1 %"
    digits = 0 if share >= 10 or share == 0 else 1
    # 99.97 % must not read as all.
    return ">99 %" if 99.5 <= share < 100 else f"{share:.{digits}f} %"


def duration(seconds: Any) -> str:
    """A time span in its two largest units: ``42 s``, ``3 min 20 s``, ``1 h 12 min``, ``2 d 3 h``."""
    number = finite(seconds)
    if number is None or number < 0:
        return NONE
    total = round(number)
    for size, unit, smaller, name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if total >= size:
            rest = total % size // smaller
            return f"{total // size} {unit}" + (f" {rest} {name}" if rest else "")
    return f"{total} s"


def _plain(text: str) -> str:
    """``1e+03`` without its exponent."""
    return f"{float(text):g}" if "e" not in text else f"{float(text):.0f}"
