"""Errors of Hydra and OmegaConf in one line: which setting, what it got, what it may be."""

import difflib
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import (
    ConfigAttributeError,
    ConfigKeyError,
    MissingMandatoryValue,
    OmegaConfBaseException,
    ValidationError,
)

from scnas.settings.schema import Config

HYDRA_ERRORS = (HydraException, OmegaConfBaseException)


def explain(error: Exception) -> str:
    """One line for a Hydra or OmegaConf error: which setting, what it got, what it may be."""
    inner = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    text = str(error)
    first = text.partition("\n")[0].strip()
    match error:
        case OverrideParseException(override=override):
            return f"{_brief(override)} is not of the form setting=value; special signs need 'quotes'"
        case MissingConfigException(missing_cfg_file=str(wanted), options=options) if options is not None:
            group, _, option = wanted.rpartition("/")
            return f"{group} must be one of {', '.join(options)}, got {_brief(option)}"
    if isinstance(inner, ConfigKeyError | ConfigAttributeError) and inner.full_key:
        return _unknown(inner.full_key)
    if isinstance(inner, MissingMandatoryValue):
        return f"{inner.full_key} must be set, got nothing"
    if isinstance(inner, ValidationError) and inner.full_key:
        if kind := _kind(inner.full_key):
            return f"{inner.full_key} must be {kind}, got {_given(inner, first)}"
    if first.startswith("Ambiguous value for argument"):
        given = first.removeprefix("Ambiguous value for argument").strip()
        return f"{given} names several values: a list is written name=[1,2], a sweep needs -m"
    if "Could not load 'hydra/launcher/submitit" in text:
        return "hydra/launcher=slurm needs the extra slurm: pip install 'scnas[slurm]'"
    if "No match in the defaults list" in text:
        group = first.removeprefix("Could not override ").partition("'.")[0].strip("'")
        if group == "experiment":
            return f"experiment needs a plus sign: {text.rsplit(' ', 1)[-1]}"
        return _unknown(group)
    if isinstance(inner, OmegaConfBaseException):
        first = (inner.msg or str(inner)).partition("\n")[0]
        return f"{inner.full_key}: {first}" if inner.full_key else first
    return first


def _class(hint: object) -> type | None:
    """`hint` if it is the class of a group of settings."""
    return hint if isinstance(hint, type) and is_dataclass(hint) else None


def _names(schema: type) -> list[str]:
    return [f.name for f in fields(schema)]


def _unknown(name: str) -> str:
    """The line for a setting that does not exist, with those that do."""
    schema: type = Config
    parent = ""
    for part in name.split(".")[:-1]:
        child = _class(get_type_hints(schema).get(part))
        if child is None:
            break
        schema, parent = child, f"{parent}{part}."
    if name.startswith("task.options."):
        return f"{name} is not an option of this task; --cfg job shows those that it has"
    if name.startswith("hydra"):
        return f"{name} is not a setting of Hydra; python -m scnas --hydra-help lists them"
    known = [*_names(schema), "experiment"] if schema is Config else _names(schema)
    wrong = name.removeprefix(parent).partition(".")[0]
    near = difflib.get_close_matches(wrong, known, n=1)
    hint = f" (did you mean {parent}{near[0]}?)" if near else ""
    where = parent.rstrip(".") or "settings and groups"
    return f"{parent}{wrong} is not a setting{hint}; {where}: {', '.join(known)}"


def _kind(name: str) -> str | None:
    """What a value of setting `name` may be, in words; None if it is not one of ours."""
    hint: Any = Config
    name, _, index = name.partition("[")
    for part in name.split("."):
        hint = None if (schema := _class(hint)) is None else get_type_hints(schema).get(part)
    if index and hint is not None:
        hint = get_args(hint)[0]
    if (schema := _class(hint)) is not None:
        return f"a group of {', '.join(_names(schema))}"
    kinds: dict[Any, str] = {
        int: "a whole number",
        float: "a number",
        str: "a text",
        list[int]: "a list of whole numbers such as [8,16]",
        list[float]: "a list of numbers such as [0.5,1.0]",
        list[str]: "a list of words such as [a,b]",
        int | None: "a whole number or null",
        float | None: "a number or null",
        str | None: "a text or null",
    }
    return kinds.get(hint)


def _given(error: ValidationError, first: str) -> str:
    """What the user wrote, as far as OmegaConf still knows it."""
    if first.startswith("Error merging override "):
        return _cut(first.partition("=")[2]) or "nothing"
    return _brief(error.value) if error.value is not None else "null"


def _brief(value: object) -> str:
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
