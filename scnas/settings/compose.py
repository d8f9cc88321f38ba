"""From conf/ and the command line to the dataclasses of the schema."""

import re
from collections.abc import Sequence
from dataclasses import is_dataclass
from typing import cast, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from scnas import plugins, resources
from scnas.contract import Refused
from scnas.settings import groups
from scnas.settings.schema import GROUPS, Config
from scnas.settings.words import HYDRA_ERRORS, _cut, _names, _unknown, explain


def load(overrides: Sequence[str] = ()) -> Config:
    """The settings that `python -m scnas <overrides>` would run with, e.g. load(["task=digits"]).

    Raises Refused, one line with the setting, what it got and what it may be.
    """
    if GlobalHydra.instance().is_initialized():
        raise RuntimeError("the settings are composed by Hydra already; use what it hands over")
    refuse_lists(overrides)
    import_plugins(overrides)
    try:
        with initialize_config_dir(str(resources.conf()), version_base="1.3"):
            return from_command(compose("config", overrides=list(overrides)))
    except HYDRA_ERRORS as error:
        raise Refused(explain(error)) from None


def refuse_lists(overrides: Sequence[str]) -> None:
    """Refused if a group gets a list of options or none: Hydra merges them, and the last one wins."""
    for override in overrides:
        group, _, option = override.lstrip("+").partition("=")
        if group in GROUPS and (option.startswith("[") or option == "null"):
            raise Refused(f"{group} must be one option, got {_cut(option)}; a sweep is -m {group}=a,b")


def import_plugins(overrides: Sequence[str]) -> None:
    """Import the plugins that the command line names, and offer every chip and task there is to Hydra.

    Before Hydra composes: a group such as target=mine is looked up then.
    """
    for override in overrides:
        if re.match(r"\+{0,2}plugins=", override):
            try:
                value = OverridesParser.create().parse_override(override).value()
            except HYDRA_ERRORS:
                continue  # Hydra meets it next, and says so
            if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
                raise Refused(f"plugins must be a list of words such as [a,b], got {_cut(str(value))}")
            plugins.load(value)
    groups.offer()


def from_command(cfg: DictConfig) -> Config:
    """The settings in a config that was composed for the user: the plugins it names are imported first.

    Raises what from_hydra() does, and Refused for a plugin that cannot be imported.
    """
    if not OmegaConf.is_missing(cfg, "plugins"):
        plugins.load([str(name) for name in cfg.plugins])
    return from_hydra(cfg)


def from_hydra(cfg: DictConfig) -> Config:
    """The settings in a composed config, which may be a stranger's: nothing it names is imported.

    Raises Refused where a value is out of range or a name is unknown, and one of HYDRA_ERRORS,
    for explain(), where a value is missing.
    """
    # Hydra lets `+name=value` add what the schema does not know; nothing would ever read it.
    _refuse_unknown(cfg, Config, "")
    return cast(Config, OmegaConf.to_object(cfg))


def _refuse_unknown(cfg: DictConfig, schema: type, prefix: str) -> None:
    for key in map(str, cfg):
        if key not in _names(schema):
            raise Refused(_unknown(f"{prefix}{key}"))
        child = get_type_hints(schema)[key]
        if (
            isinstance(child, type)
            and is_dataclass(child)
            and not OmegaConf.is_missing(cfg, key)
            and isinstance(cfg[key], DictConfig)
        ):
            _refuse_unknown(cfg[key], child, f"{prefix}{key}.")
