"""front.json: what a run found, read back as data, whoever made it. `record.written` writes it."""

import math
from dataclasses import dataclass
from pathlib import Path

from scnas import metrics
from scnas.contract import Refused, one_of, short
from scnas.evaluation import Evaluation
from scnas.files import MAX_JSON_BYTES, inside, read_json, refuse_links
from scnas.genes import GENES
from scnas.hardware.targets import TARGETS
from scnas.settings import schema
from scnas.snn.network import Network
from scnas.space import Architecture

FORMAT = "scnas-front/1"
MAX_MEMBERS = 65536
MAX_TITLE = 200  # characters
_KEYS = ("format", "task", "target", "clock_mhz", "energy_label", "objectives", "members")
_NEEDED = ("accuracy", "error", "luts", "energy_nj")  # of every member: tables and figures show them


@dataclass(frozen=True)
class Front:
    """The front of a finished run, best accuracy first.

    task: what people call the data. target: a name of scnas.hardware.targets, clocked at clock_mhz.
    members: as trained in full, violation 0; their metrics are finite. files: where the network of each
    lies, relative to the run folder, None if it has none. winner: its index in members.
    """

    task: str
    target: str
    clock_mhz: float
    objectives: tuple[str, ...]
    members: tuple[Evaluation, ...]
    files: tuple[str | None, ...]
    winner: int


def read(folder: str | Path, networks: bool = True) -> Front:
    """The front in folder/front.json, with its networks unless they are not wanted.

    Executes nothing and follows no path out of `folder`. Raises ValueError, one line with the file and
    what is wrong with it.
    """
    folder = Path(folder)
    path = folder / "front.json"
    if not path.exists():
        raise Refused(
            f"{folder}: run must name the folder of a finished run, and there is no front.json in it"
        )
    refuse_links(folder)
    data = read_json(path)
    try:
        return _front(folder, data, networks)
    except (ValueError, TypeError) as error:
        text = " ".join(str(error).split())
        raise Refused(text if text.startswith(str(folder)) else f"{path}: {text}") from None


def _front(folder: Path, data: object, networks: bool) -> Front:
    if not isinstance(data, dict) or any(key not in data for key in _KEYS):
        raise Refused(f"does not hold the front of a run: {', '.join(_KEYS)}")
    if data["format"] != FORMAT:
        raise Refused(f"format must be {FORMAT!r}, got {short(data['format'])}")
    task = data["task"]
    if not isinstance(task, str) or not task.isprintable() or not 0 < len(task) <= MAX_TITLE:
        raise Refused(f"task must be 1 to {MAX_TITLE} printable characters")
    target = one_of("target", data["target"], tuple(TARGETS))
    clock = schema.CLOCKS.check("clock_mhz", data["clock_mhz"])
    objectives = data["objectives"]
    known = metrics.objectives()
    if not isinstance(objectives, list) or not 0 < len(objectives) <= len(known):
        raise Refused(f"objectives must be a list of {', '.join(known)}")
    for name in objectives:
        one_of("objectives", name, known)
    if len(set(objectives)) < len(objectives):
        raise Refused("objectives must differ from each other")
    rows = data["members"]
    if not isinstance(rows, list) or not 1 <= len(rows) <= MAX_MEMBERS:
        raise Refused(f"members must be a list of 1 to {MAX_MEMBERS}")
    for i, row in enumerate(rows):
        keys = ("winner", "network", "metrics", "architecture")
        if not isinstance(row, dict) or any(key not in row for key in keys):
            raise Refused(f"members[{i}] must hold {', '.join(keys)}")
    winners = [i for i, row in enumerate(rows) if row["winner"] is True]
    if len(winners) != 1:
        raise Refused(f"one member must be the winner, got {len(winners)}")
    files = [None if row["network"] is None else inside(folder, row["network"]) for row in rows]
    if networks:
        size = sum(file.stat().st_size for file in files if file is not None and file.is_file())
        if size > 4 * MAX_JSON_BYTES:
            raise Refused(f"its networks take {size} bytes, at most {4 * MAX_JSON_BYTES} are read")
    members = tuple(
        _member(i, row, file if networks else None, objectives)
        for i, (row, file) in enumerate(zip(rows, files, strict=True))
    )
    return Front(
        task, target, clock, tuple(objectives), members, tuple(row["network"] for row in rows), winners[0]
    )


def _member(i: int, row: dict, file: Path | None, objectives: list[str]) -> Evaluation:
    genes, figures = row["architecture"], row["metrics"]
    if not isinstance(genes, dict) or not set(genes) <= {gene.name for gene in GENES}:
        raise Refused(f"members[{i}].architecture must be an object of genes")
    try:
        architecture = Architecture(**genes)
    except ValueError as error:
        raise Refused(f"members[{i}].architecture: {error}") from None
    if not isinstance(figures, dict) or len(figures) > 100:
        raise Refused(f"members[{i}].metrics must be an object of at most 100 figures")
    for name, value in figures.items():
        good = value is None or (isinstance(value, int | float) and not isinstance(value, bool))
        if not name.isidentifier() or len(name) > 40 or not name.isascii():
            raise Refused(f"members[{i}].metrics: {name!r:.50} is no name of a figure")
        if not good or (value is not None and not (abs(value) <= 1e15 and math.isfinite(value))):
            raise Refused(f"members[{i}].metrics.{name} must be a number or null, got {value!r:.50}")
    known = {name: value for name, value in figures.items() if value is not None}
    if missing := [name for name in (*_NEEDED, *objectives) if name not in known]:
        raise Refused(f"members[{i}].metrics lacks {missing[0]}")
    if not 0 <= known["accuracy"] <= 1:
        raise Refused(f"members[{i}].metrics.accuracy must be from 0 to 1, got {known['accuracy']!r}")
    if known["luts"] < 0 or known["energy_nj"] < 0:
        raise Refused(f"members[{i}].metrics: luts and energy_nj must be 0 or more")
    network = None
    if file is not None:
        network = Network.load(file)
        if (network.n_inputs, *(n.n_out for n in network.layers)) != (
            architecture.n_inputs, *architecture.layer_widths,
        ):  # fmt: skip
            raise Refused(f"members[{i}].network has other layers than its architecture")
    return Evaluation(architecture, known, 0.0, True, network=network)
