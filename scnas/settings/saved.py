"""The settings of a run as a file, read back as data, whoever wrote it."""

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import yaml
from omegaconf import DictConfig, OmegaConf

from scnas import plugins, resources
from scnas.contract import Refused, one_line
from scnas.files import read_text
from scnas.settings.compose import from_hydra
from scnas.settings.schema import Config
from scnas.settings.words import HYDRA_ERRORS, explain

MAX_SETTINGS_BYTES = 2**14  # of a settings.yaml, which takes 2,000
MAX_FLOW = 500  # brackets in it


def to_yaml(settings: Config) -> str:
    """The settings as the text of a settings.yaml; read() gives them back."""
    return OmegaConf.to_yaml(OmegaConf.structured(settings))


def read(path: str | Path) -> Config:
    """The settings in a settings.yaml; Refused, one line with the file's name, if it holds none.

    The file is read as data: interpolations and aliases in it are refused, not resolved, and plugins that it
    names are not imported: where the user has not named them as well, the file is refused.
    """
    text = read_text(path, MAX_SETTINGS_BYTES)
    try:
        # The scanner takes time that grows with the square of the depth.
        if text.count("[") + text.count("{") > MAX_FLOW:
            raise ValueError(f"more than {MAX_FLOW} brackets")
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise ValueError("interpolations and aliases are not read")
        content = _parsed(text)
        if "${" in repr(OmegaConf.to_container(content, resolve=False)):  # "\x24{" in the file is one, too
            raise ValueError("interpolations and aliases are not read")
        merged = OmegaConf.merge(OmegaConf.structured(Config), _later_settings(), content)
        whole = cast(DictConfig, merged)  # as its first argument is
        _refuse_unnamed(whole.plugins)
        return from_hydra(whole)
    except _Unnamed as error:
        raise _Unnamed(f"{path} {error}") from None
    except HYDRA_ERRORS as error:
        raise Refused(f"{path}: {one_line(explain(error))}") from None
    except (ValueError, TypeError, AttributeError, RecursionError, yaml.YAMLError) as error:
        raise Refused(f"{path}: not the settings of a run ({one_line(str(error))})") from None


def refuse_unnamed_plugins(run_folder: Path) -> None:
    """Refused where the settings in a run's folder name plugins that the user did not name as well.

    A folder without settings that can be read is for others to refuse.
    """
    try:
        read(run_folder / "settings.yaml")
    except _Unnamed:
        raise
    except Refused:
        return


class _Unnamed(Refused):
    """The plugins of a run that the user did not name."""


def _refuse_unnamed(names: Sequence[str]) -> None:
    if unnamed := plugins.missing(names):
        listed = one_line(",".join(unnamed))
        raise _Unnamed(
            f"names plugins, which only you can have imported: add plugins=[{listed}] if you trust them"
        )


def _later_settings() -> dict[str, object]:
    """Settings that a file may be older than: what no result of a search depends on, and what a run did
    before there was a choice."""
    measured = OmegaConf.load(resources.conf() / "benchmark" / "standard.yaml")
    pruned = {"prune_by": "magnitude", "prune_per": "layer", "regrow": 0.0}
    own = {"plugins": [], "task": {"options": {}}}
    return {"run": None, "runs": [], "benchmark": measured, "train": pruned, **own}


def _parsed(text: str) -> DictConfig:
    """A YAML text as OmegaConf holds it; ValueError for whatever its loader or OmegaConf stumbles over."""
    try:
        content = OmegaConf.create(text)
    except HYDRA_ERRORS:
        raise
    except Exception as error:
        raise ValueError(str(error) or type(error).__name__) from None
    if not isinstance(content, DictConfig):
        raise ValueError("it holds a list")
    return content


def flat(settings: Any, prefix: str = "") -> dict[str, object]:
    """Every setting by its dotted name, in the order of the classes; lists stay lists."""
    found: dict[str, object] = {}
    for f in fields(settings):
        value = getattr(settings, f.name)
        if hasattr(value, "__dataclass_fields__"):
            found |= flat(value, f"{prefix}{f.name}.")
        else:
            found[prefix + f.name] = value
    return found
