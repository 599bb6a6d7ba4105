"""Numbers as words, and one form for the many ways in which a number is said."""

from __future__ import annotations

_ONES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
         "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"]
_TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90}
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_SMALL = {word: value for value, word in enumerate(_ONES)} | _TENS | {"nought": 0}
_ORDINALS = {"one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
             "twelve": "twelfth"}
_PARTS = {2: "half", 4: "quarter"}
_LONGEST = 15
"""Digits of what is read as one number."""


def cardinal(digits: str) -> str:
    """Digits as a number, or one by one where they begin with a zero or are too many for one."""
    if len(digits) > _LONGEST or (digits[0] == "0" and len(digits) > 1):
        return " ".join(_ONES[int(digit)] for digit in digits)
    value = int(digits)
    words: list[str] = []
    for name, scale in reversed(_SCALES.items()):
        if value >= scale:
            words += [_below_thousand(value // scale), name]
            value %= scale
    if value or not words:
        words.append(_below_thousand(value))
    return " ".join(words)


def _below_thousand(value: int) -> str:
    words = [_ONES[value // 100], "hundred"] if value >= 100 else []
    value %= 100
    if value >= 20:
        words.append(next(word for word, ten in _TENS.items() if ten == value // 10 * 10))
        value %= 10
        words += [_ONES[value]] if value else []
    elif value or not words:
        words.append(_ONES[value])
    return " ".join(words)


def ordinal(value: int) -> str:
    """21 as "twenty first"."""
    *words, last = cardinal(str(value)).split()
    if last in _ORDINALS:
        return " ".join([*words, _ORDINALS[last]])
    return " ".join([*words, (last[:-1] + "ie" if last.endswith("y") else last) + "th"])


def plural_decade(digits: str) -> str:
    """1990 as "nineteen nineties", 1900 as "nineteen hundreds"."""
    century, years = digits[:-2], int(digits[-2:])
    if not years:
        return f"{cardinal(century)} hundreds"
    last = next(word for word, ten in _TENS.items() if ten == years) if years >= 20 else "ten"
    return f"{cardinal(century) if century else ''} {last[:-1] + 'ies' if last.endswith('y') else last + 's'}"


def with_point(number: str) -> str:
    """1.25 as "one point two five", 3.11.4 as "three point one one point four"."""
    whole, *parts = number.split(".")
    return " point ".join([cardinal(whole), *(" ".join(_ONES[int(digit)] for digit in part) for part in parts)])


def fraction(whole: str | None, above: str, below: str) -> str:
    """A proper fraction of small parts as it is said; other numbers with a slash one after the other."""
    count, parts = int(above), int(below)
    if not (0 < count < parts <= 10 or (count, parts) == (1, 100)):
        return " ".join(filter(None, (whole, above, below)))
    name = _PARTS.get(parts) or ordinal(parts)
    said = f"{_ONES[count]} {name}" + ("s" if count > 1 else "")
    return said if whole is None else f"{whole} and {said}"


def one_form(words: list[str]) -> list[str]:
    """``words`` with every number as :func:`cardinal` or :func:`with_point` says it.

    Numbers without a word between them are one: "nineteen ninety", "two oh one", "five five five one two three four".
    "and a half" and quarters behind a number are decimals, "negative" before one is "minus", and "a hundred" is one.
    """
    items = _with_points(_read_numbers(words))
    result: list[str] = []
    for index, item in enumerate(items):
        following = items[index + 1] if index + 1 < len(items) else ""
        if isinstance(item, str) and item == "negative" and isinstance(following, _Digits):
            result.append("minus")
        elif isinstance(item, _Digits):
            result += (with_point(item) if "." in item else cardinal(item)).split()
        else:
            result.append(item)
    return result


class _Digits(str):
    """A number that was read from words, as digits with perhaps a point; other items of a list are words."""

    __slots__ = ()


def _read_numbers(words: list[str]) -> list[str]:
    """``words`` with runs of number words as :class:`_Digits`."""
    items: list[str] = []
    place = 0
    while place < len(words):
        before = items[-1] if items else ""
        value, after = _digits_at(words, place) if before == "point" else _number_at(words, place)
        if value is None:
            items.append(words[place])
            place += 1
        elif isinstance(before, _Digits):
            items[-1] = _Digits(before + value)
            place = after
        else:
            items.append(_Digits(value))
            place = after
        if place < len(words) and words[place] in ("oh", "o") and isinstance(items[-1], _Digits):
            items[-1] = _Digits(items[-1] + "0")
            place += 1
    return items


def _digits_at(words: list[str], place: int) -> tuple[str | None, int]:
    """What is said behind a point, where "five million" are a digit and a word; as :func:`_number_at`."""
    start, digits = place, ""
    while place < len(words) and words[place] in _SMALL:
        digits += str(_SMALL[words[place]])
        place += 1
    return digits or None, place if digits else start


def _number_at(words: list[str], place: int) -> tuple[str | None, int]:
    """Digits of the number that begins at a place, and where it ends; None if there is none."""
    total, current, last, scale = 0, None, "", 10**18
    start = place
    while place < len(words):
        word = words[place]
        following = words[place + 1] if place + 1 < len(words) else ""
        if word in ("a", "an") and place == start and (following == "hundred" or following in _SCALES):
            current = 1
        elif word in _SMALL:
            value = _SMALL[word]
            fits = current is None or last == "hundred" or (last in _TENS and 0 < value < 10)
            if not fits or (value == 0 and place > start):
                break
            current = (current or 0) + value
        elif word == "hundred" and current is not None and 0 < current < 100:
            current *= 100
        elif word in _SCALES and current and _SCALES[word] < scale:
            scale = _SCALES[word]
            total += current * scale
            current = None
        elif not (word == "and" and (last == "hundred" or last in _SCALES) and _continues(following)):
            break
        last = word if word != "and" else last
        place += 1
    return (None, start) if place == start else (str(total + (current or 0)), place)


def _continues(word: str) -> bool:
    """Whether a word behind "hundred and" belongs to the number: "one hundred and five", "one hundred and first"."""
    return word in _SMALL or word in _ORDINALS.values() or (word.endswith("th") and word[:-2] in _SMALL)


def _with_points(items: list[str]) -> list[str]:
    """Points, halves and quarters behind numbers taken into them; "point five" begins with a zero."""
    ends = {("and", "a", "half"): "5", ("and", "half"): "5", ("and", "a", "quarter"): "25", ("and", "quarter"): "25"}
    result: list[str] = []
    place = 0
    while place < len(items):
        item, following = items[place], items[place + 1] if place + 1 < len(items) else ""
        number = isinstance(item, _Digits)
        if item == "point" and isinstance(following, _Digits):
            before = result.pop() if result and isinstance(result[-1], _Digits) else "0"
            result.append(_Digits(f"{before}.{following}"))
            place += 2
            continue
        if following == "half" and (item == "a" or (number and item == "1")):
            place += 1  # "a half" and "one half" are "half"
            continue
        result.append(item)
        place += 1
        tail = [word for word in items[place:place + 3]]
        tail = ["a" if isinstance(word, _Digits) and word == "1" else word for word in tail]
        end = next((words for words in ends if tuple(tail[:len(words)]) == words), None)
        if number and end:
            result[-1] = _Digits(f"{item}.{ends[end]}")
            place += len(end)
        elif number and tail[:1] == ["and"] and tail[1:] == ["3", "quarters"]:
            result[-1] = _Digits(f"{item}.75")
            place += 3
    return result
