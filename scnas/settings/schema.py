"""The settings: dataclasses that every YAML file and every word of the command line is checked against.

Values live in conf/, meaning lives here. A field is MISSING until conf/ fills it, so a value has one
home. Its annotation says what it may be; that is checked once, on complete values, when Hydra's config
becomes these classes.
"""

import math
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Annotated, Any, Protocol, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from scnas import genes, metrics
from scnas.contract import (
    PRUNE_BY,
    PRUNE_PER,
    TIMESTEPS,
    WIDTHS,
    Interval,
    OneOf,
    Range,
    Refused,
    check_fields,
    is_power_of_two,
    one_of,
)
from scnas.space import SearchSpace

DEVICES = ("auto", "cpu", "cuda")
EXECUTORS = ("local", "ray")
MODES = ("generational", "steady")  # steady: a free worker gets the next candidate at once
JOBS = ("search", "verify", "synthesize", "calibrate", "export", "repair", "compare", "benchmark")
PEERS = ("plain torch", "snnTorch", "SpikingJelly", "Norse")  # of scnas.peers
SEEDS = Range(0, 2**63 - 1)
SIZES = Range(1, 2**31)  # of whatever there may be many of
EPOCHS = Range(1, 100_000)
BATCHES = Range(1, 2**20)
RATES = Interval(0, 10, above=True)  # of learning
SECONDS = Interval(0, 1e7, above=True)
SHARES = Interval(0, 1)
CLOCKS = Interval(0, 2000, above=True)  # MHz


class Data(Protocol):
    """What a search space needs to know of a task."""

    @property
    def encoder(self) -> str: ...
    @property
    def n_inputs(self) -> int: ...
    @property
    def n_classes(self) -> int: ...
    @property
    def timesteps(self) -> int | None: ...


@dataclass
@genes.settings_fields
class Space:
    """What an architecture may be: the words of scnas.space.SearchSpace. The choices are those of
    scnas.genes.GENES, which says what each of them means."""

    min_layers: int = MISSING  # the output layer counts
    max_layers: int = MISSING
    timesteps_choices: list[int] = MISSING

    def __post_init__(self) -> None:
        self._space(1, 1)

    def for_task(self, task: Data) -> SearchSpace:
        """The space with the inputs and outputs of `task`.

        Events bring their own number of steps, so timesteps_choices are ignored for them. Values are
        rate coded, which needs powers of two: ValueError otherwise.
        """
        if task.timesteps is not None:
            return self._space(task.n_inputs, task.n_classes, timesteps_choices=[task.timesteps])
        if bad := [t for t in self.timesteps_choices if not is_power_of_two(t)]:
            raise Refused(f"space.timesteps_choices must be powers of two for a task of values, got {bad[0]}")
        return self._space(task.n_inputs, task.n_classes)

    def _space(self, n_inputs: int, n_outputs: int, **changes: Any) -> SearchSpace:
        try:
            return SearchSpace(n_inputs, n_outputs, **asdict(self) | changes)
        except ValueError as error:
            raise Refused(f"space.{error}") from None


@dataclass
class Target:
    """The chip. name: one of scnas.hardware.targets. clock_mhz: null for the chip's own default."""

    name: str = MISSING
    clock_mhz: Annotated[float | None, CLOCKS] = MISSING

    def __post_init__(self) -> None:
        check_fields("target.", self)


@dataclass
class Task:
    """The data and its splits, which depend on nothing but these values.

    name: a family of scnas.tasks. path: its file or folder, null where it needs none.
    seed: of the splits. train_limit: use at most so many training samples; null for all.
    validation, test: shares of the samples set aside where the data come without such a split.
    low, high: values of an `npz` task are scaled from low..high to 0..1.
    download: fetch a public set into `path` if nothing is there.
    What only some families read, null for the others: split: `official`, or `speakers` to hold speakers
    out for validation and test. crop: pixels cut from every border. shift: training images are joined by
    copies that are moved up, down, left and right by 1 to `shift` pixels. warp: and by so many copies that
    are turned, stretched, sheared and bent at random. steps: T of a task of events. pool: neighbouring
    inputs (of an image: a square of pool x pool) merged into one. channels: inputs. classes, samples: of a
    generated task. options: settings of a family's own, by name; {} for a family without.
    """

    name: str = MISSING
    path: str | None = MISSING
    seed: Annotated[int, SEEDS] = MISSING
    train_limit: Annotated[int | None, SIZES] = MISSING
    validation: Annotated[float, Interval(0, 0.5, above=True)] = MISSING
    test: Annotated[float, Interval(0, 0.5, above=True)] = MISSING
    low: float = MISSING
    high: float = MISSING
    download: bool = MISSING
    split: Annotated[str | None, OneOf(("official", "speakers"))] = MISSING
    crop: Annotated[int | None, Range(0, 2**15)] = MISSING
    shift: Annotated[int | None, Range(0, 16)] = MISSING
    warp: Annotated[int | None, Range(0, 64)] = MISSING
    steps: Annotated[int | None, TIMESTEPS] = MISSING
    pool: Annotated[int | None, WIDTHS] = MISSING
    channels: Annotated[int | None, WIDTHS] = MISSING
    classes: Annotated[int | None, Range(2, WIDTHS.high)] = MISSING
    samples: Annotated[int | None, SIZES] = MISSING
    options: dict[str, Any] = MISSING

    def __post_init__(self) -> None:
        check_fields("task.", self)
        if self.validation + self.test > 0.8:
            raise Refused(
                "task.validation and task.test must leave a fifth of the samples for training, "
                f"got {self.validation:g} + {self.test:g}"
            )
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise Refused(f"task.low must be below task.high, both finite, got {self.low} and {self.high}")


@dataclass
class Train:
    """How a candidate is trained in the search, and how the front is trained after it.

    samples: drawn anew for each epoch.
    """

    epochs: Annotated[int, EPOCHS] = MISSING  # of a candidate in the search
    samples: Annotated[int | None, SIZES] = MISSING  # of an epoch in the search; null: all
    full_epochs: Annotated[int, EPOCHS] = MISSING  # of a member of the front
    final_seeds: Annotated[int, Range(1, 1000)] = MISSING  # how often each member of the front is trained
    batch_size: Annotated[int, BATCHES] = MISSING
    learning_rate: Annotated[float, RATES] = MISSING
    prune_by: Annotated[str, OneOf(PRUNE_BY)] = MISSING  # what stays of a sparse layer
    prune_per: Annotated[str, OneOf(PRUNE_PER)] = MISSING  # what a density is of
    regrow: Annotated[float, SHARES] = MISSING  # of its synapses, that move to where the gradient is largest

    def __post_init__(self) -> None:
        check_fields("train.", self)


@dataclass
@metrics.budget_fields
class Budgets:
    """Upper limits of a feasible candidate, of what scnas.metrics.METRICS lets a user limit; null is the
    capacity of the target, or no limit where it has none."""

    def __post_init__(self) -> None:
        check_fields("search.budgets.", self)


@dataclass
class Winner:
    """The rule that picks one network from the front, fixed before the search begins.

    Among the members whose validation accuracy is at most `within` below the best one (0.01 is one
    point), the member with the smallest `smallest`, which may be any objective.
    """

    within: Annotated[float, SHARES] = MISSING
    smallest: str = MISSING

    def __post_init__(self) -> None:
        check_fields("search.winner.", self)
        one_of("search.winner.smallest", self.smallest, metrics.objectives())


@dataclass
class Search:
    seed: Annotated[int, SEEDS] = MISSING  # of everything random but the splits of the data
    population_size: Annotated[int, Range(2, 65536)] = MISSING
    generations: Annotated[int, Range(1, 1_000_000)] = MISSING
    objectives: list[str] = MISSING  # of metrics.objectives(), all minimised
    budgets: Budgets = MISSING
    winner: Winner = MISSING
    max_failed_share: Annotated[float, SHARES] = MISSING  # of a generation; more failures end the search
    archive: str | None = MISSING  # one that several runs share, which lends them trainings; null: none
    mode: Annotated[str, OneOf(MODES)] = MISSING

    def __post_init__(self) -> None:
        check_fields("search.", self)
        known = metrics.objectives()
        if not self.objectives:
            raise Refused(f"search.objectives must hold one or more of {', '.join(known)}, got none")
        for objective in self.objectives:
            one_of("search.objectives", objective, known)
        if len(set(self.objectives)) < len(self.objectives):
            raise Refused(f"search.objectives must differ from each other, got {list(self.objectives)}")


@dataclass
class Executor:
    """Where candidates are trained. workers: processes; 0 for one per core. memory_gib: for one group.
    timeout_s: for one group; null: no limit. address, cpus, gpus: of a Ray cluster, see trials.cluster."""

    name: Annotated[str, OneOf(EXECUTORS)] = MISSING
    workers: Annotated[int, Range(0, 4096)] = MISSING
    device: Annotated[str, OneOf(DEVICES)] = MISSING
    memory_gib: Annotated[float, Interval(0, 1_000_000, above=True)] = MISSING
    timeout_s: Annotated[float | None, SECONDS] = MISSING
    address: str | None = MISSING
    cpus: Annotated[float, Interval(0, 4096, above=True)] = MISSING
    gpus: Annotated[float, Interval(0, 64, above=True)] = MISSING

    def __post_init__(self) -> None:
        check_fields("executor.", self)


@dataclass
class Build:
    """What is done to the winner. timeout_s: for every tool."""

    simulate: bool = MISSING  # the RTL on every test sample
    synthesize: bool = MISSING  # place and route, and a bitstream
    prove: bool = MISSING  # that the design is the network
    timeout_s: Annotated[float, SECONDS] = MISSING

    def __post_init__(self) -> None:
        check_fields("build.", self)


@dataclass
class Benchmark:
    """What job=benchmark measures. python: the interpreter that has the peers (make peers); peers: names of
    scnas.peers.PEERS. population: networks of each population, of which a peer trains `sample`. Learning
    rates are peaks of the same schedule. curve: largest population of the curves; 0 for no curves."""

    python: str = MISSING
    peers: Annotated[list[str], OneOf(PEERS)] = MISSING
    population: Annotated[int, Range(1, 64)] = MISSING
    sample: Annotated[int, Range(1, 64)] = MISSING
    timesteps: Annotated[int, Range(1, 256)] = MISSING
    epochs: Annotated[int, Range(1, 1000)] = MISSING
    batch_size: Annotated[int, BATCHES] = MISSING
    learning_rate: Annotated[float, RATES] = MISSING
    peers_learning_rate: Annotated[float, RATES] = MISSING
    repeats: Annotated[int, Range(1, 100)] = MISSING
    curve: Annotated[int, Range(0, 4096)] = MISSING

    def __post_init__(self) -> None:
        check_fields("benchmark.", self)
        if not is_power_of_two(self.timesteps):
            raise Refused(f"benchmark.timesteps must be a power of two, got {self.timesteps}")


@dataclass
class Config:
    """Everything a run depends on. job: one of JOBS. run: the folder of a finished run, for the jobs
    that look at one. runs: those that job=compare puts side by side. plugins: modules and .py files of the
    user's own, imported before anything else (scnas.plugins)."""

    job: Annotated[str, OneOf(JOBS)] = MISSING
    run: str | None = MISSING
    runs: list[str] = MISSING
    plugins: list[str] = MISSING
    space: Space = MISSING
    target: Target = MISSING
    task: Task = MISSING
    train: Train = MISSING
    search: Search = MISSING
    executor: Executor = MISSING
    build: Build = MISSING
    benchmark: Benchmark = MISSING

    def __post_init__(self) -> None:
        check_fields("", self)


ConfigStore.instance().store(name="schema", node=Config)
GROUPS = (*(f.name for f in fields(Config) if is_dataclass(get_type_hints(Config)[f.name])), "experiment")
