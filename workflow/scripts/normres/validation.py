"""Checks of values against the JSON schema, with one line that says what is wrong and allowed."""

import difflib
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match

from normres.errors import InputError
from normres.options import option_schemas, schema

BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}

# What no option needs; numbers beyond it overflow somewhere, nests beyond it exhaust the stack.
MOST_DIGITS = 15
MOST_LEVELS = 20
# Control characters, halves of surrogate pairs, and separators that end a line in some programs.
NOT_TEXT = {"Cc", "Cs", "Zl", "Zp"}

TYPE_WORDS = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
}


def config_schema() -> dict[str, Any]:
    """The schema of config.yaml, in which each training option may be a value or a list."""
    full = {**schema(), "$defs": dict(schema()["$defs"])}
    study = full["$defs"]["study"]
    options = option_schemas()
    axes = {
        name: {"if": {"type": "array"}, "then": _list_of(s), "else": s}
        for name, s in options.items()
    }
    properties = {**study["properties"], **axes}
    overrides = {**properties["overrides"]}
    overrides["additionalProperties"] = {
        **overrides["additionalProperties"],
        "additionalProperties": False,
        "properties": options,
    }
    full["$defs"]["study"] = {**study, "properties": {**properties, "overrides": overrides}}
    return full


def _list_of(item_schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item_schema, "minItems": 1, "uniqueItems": True}


def check(value: Any, value_schema: Mapping[str, Any], where: str) -> None:
    """Raise InputError in one line where `value` does not fit `value_schema`."""
    check_plain(value, where)
    error = best_match(Draft202012Validator(value_schema).iter_errors(value))
    if error is not None:
        place = where
        for key in error.absolute_path:
            place = below(place, key)
        raise InputError(f"{place}: {_explain(error)}")


def check_plain(value: Any, where: str, level: int = 0) -> None:
    """Raise InputError where there is what JSON, a file or a terminal cannot hold.

    YAML has dates, sets, bytes, numbers of any length, NaN, keys that are no text, and lists that
    contain themselves; NaN and infinity keep within every bound of a schema.
    """
    if level > MOST_LEVELS:
        raise InputError(f"{where}: nested too deeply")
    if isinstance(value, Mapping):
        for key, member in value.items():
            if not isinstance(key, str):
                raise InputError(f"{where}: the key {show(key)} is not text; put it in quotes")
            check_plain(key, f"{where}: the key")
            check_plain(member, below(where, key), level + 1)
    elif isinstance(value, list):
        for i, member in enumerate(value):
            check_plain(member, below(where, i), level + 1)
    elif isinstance(value, str):
        odd = [c for c in value if unicodedata.category(c) in NOT_TEXT and c not in "\n\t"]
        if odd:
            raise InputError(f"{where}: the character {odd[0]!r} in {show(value)} is not allowed")
    elif isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{where}: {value} is not a finite number")
    elif isinstance(value, int) and abs(value) >= 10**MOST_DIGITS:
        raise InputError(f"{where}: a number of more than {MOST_DIGITS} digits is not allowed")
    elif not isinstance(value, float | int | None):
        raise InputError(
            f"{where}: {show(value)} is no text, number, list or mapping; if it is meant as text, "
            "put it in quotes"
        )


def show(value: Any, most: int = 60) -> str:
    """A value for a message: one line of at most `most` characters."""
    text = "nothing (null)" if value is None else repr(value)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def value_text(value: Any) -> str:
    """A value as config.yaml has it: true, not True; a version stays as it is, 13.0."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def below(where: str, key: str | int) -> str:
    """The place of a member in a message."""
    plain = re.fullmatch(r"[\w.=-]{1,60}", str(key))
    return f"{where}.{key if plain else show(key)}"


def check_name(name: str, allowed: Iterable[str], where: str) -> None:
    """Raise InputError where `name` is not among `allowed`, with the nearest one."""
    allowed = list(allowed)
    if name not in allowed:
        raise InputError(f"{where}: unknown name {show(name)}{_suggest(name, allowed)}")


def coerce(value: Any, value_schema: Mapping[str, Any]) -> Any:
    """Read text as what the schema asks for: the command line gives text, so does YAML for 1e-4."""
    if isinstance(value, list):
        items = value_schema.get("items", value_schema)
        return [coerce(item, items) for item in value]
    types = value_schema.get("type", "string")
    types = [types] if isinstance(types, str) else types
    if isinstance(value, float) and value.is_integer() and "integer" in types:
        return int(value)
    if not isinstance(value, str):
        return value
    for kind in types:
        if kind in ("number", "integer"):
            try:
                number = float(value)
            except ValueError:
                continue
            return int(number) if number.is_integer() and kind == "integer" else number
        if kind == "boolean" and value.lower() in BOOLEANS:
            return BOOLEANS[value.lower()]
    return value


def _explain(error: ValidationError) -> str:
    """One line for one violation of the schema."""
    value, limit = error.instance, error.validator_value
    shown = show(value)
    match error.validator:
        case "additionalProperties" if limit is False:
            allowed = sorted(error.schema.get("properties", {}))
            unknown = next(key for key in value if key not in allowed)
            return f"unknown key {show(unknown)}{_suggest(str(unknown), allowed)}"
        case "required":
            missing = next(key for key in limit if key not in value)
            return f"the key {missing!r} is missing"
        case "type":
            kinds = [limit] if isinstance(limit, str) else limit
            wanted = " or ".join(TYPE_WORDS[kind] for kind in kinds)
            hint = "; YAML reads bare yes, no, on and off as booleans"
            return f"{shown} is not {wanted}{hint if isinstance(value, bool) else ''}"
        case "enum":
            return f"unknown value {shown}{_suggest(str(value), [*map(value_text, limit)])}"
        case "minItems":
            return f"the list is empty; it needs at least {limit} entry"
        case "uniqueItems":
            twice = next(item for item in value if value.count(item) > 1)
            return f"{show(twice)} is listed twice"
        case "minimum":
            return f"{shown} is too small; the least is {limit}"
        case "exclusiveMinimum":
            return f"{shown} is too small; it must be above {limit}"
        case "maximum":
            return f"{shown} is too large; the most is {limit}"
        case "exclusiveMaximum":
            return f"{shown} is too large; it must be below {limit}"
        case "minProperties" | "minLength":
            return f"{shown} is empty"
        case "not":
            return f"{shown} is a name that the pipeline uses itself"
        case "pattern":
            return f"{shown} is not a name of at most 60 small letters, digits, - and _"
    return " ".join(error.message.split())


def _suggest(word: str, allowed: list[str]) -> str:
    close = difflib.get_close_matches(word, allowed, n=1, cutoff=0.5)
    guess = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{guess} Allowed: {', '.join(allowed)}"
