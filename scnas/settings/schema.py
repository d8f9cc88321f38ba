"""The settings: dataclasses that every YAML file and every word of the command line is checked against.

Values live in conf/, meaning lives here. A field is MISSING until conf/ fills it, so a value has one
home; the checks run once, on complete values, when Hydra's config becomes these classes.
"""

import math
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, Protocol, get_type_hints

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING

from scnas.contract import (
    MAX_TIMESTEPS,
    MAX_WIDTH,
    OBJECTIVES,
    PRUNE_BY,
    PRUNE_PER,
    Refused,
    is_power_of_two,
    one_of,
    short,
    whole,
)
from scnas.space import SearchSpace

DEVICES = ("auto", "cpu", "cuda")
EXECUTORS = ("local", "ray")
MODES = ("generational", "steady")  # steady: a free worker gets the next candidate at once
JOBS = ("search", "verify", "synthesize", "calibrate", "export", "repair", "compare", "benchmark")
PEERS = ("plain torch", "snnTorch", "SpikingJelly", "Norse")  # of scnas.peers
MAX_SEED = 2**63 - 1


def number(name: str, value: object, low: float, high: float, *, above: bool = False) -> float:
    """`value` as a finite float in low..high (above low, if asked); ValueError naming `name` otherwise."""
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or not low <= value <= high or (above and value == low):
        least = f"above {low:g} and at most" if above else f"from {low:g} to"
        raise Refused(f"{name} must be a number {least} {high:g}, got {short(value)}")
    return float(value)


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
class Space:
    """What an architecture may be; the words of scnas.space.SearchSpace."""

    min_layers: int = MISSING  # the output layer counts
    max_layers: int = MISSING
    width_choices: list[int] = MISSING  # neurons of a hidden layer
    neuron_choices: list[str] = MISSING
    L_choices: list[int] = MISSING  # clocks of a bitstream, powers of two
    delay_choices: list[int] = MISSING  # largest delay of a layer, in steps
    density_choices: list[float] = MISSING  # share of synapses kept
    generator_choices: list[str] = MISSING
    mapping_choices: list[str] = MISSING
    lanes_choices: list[int] = MISSING  # inputs per clock of a folded layer
    units_choices: list[int] = MISSING  # neurons that a folded layer takes at once
    timesteps_choices: list[int] = MISSING  # a task of events brings its own
    word_choices: list[int] = MISSING  # bits of a membrane
    fraction: int = MISSING  # F: a number n stands for n / 2^F
    readout: str = MISSING

    def __post_init__(self):
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

    def _space(self, n_inputs: int, n_outputs: int, **changes: object) -> SearchSpace:
        try:
            return SearchSpace(n_inputs, n_outputs, **asdict(self) | changes)
        except ValueError as error:
            raise Refused(f"space.{error}") from None


@dataclass
class Target:
    """The chip. name: one of scnas.hardware.targets. clock_mhz: null for the chip's own default."""

    name: str = MISSING
    clock_mhz: float | None = MISSING

    def __post_init__(self):
        if self.clock_mhz is not None:
            number("target.clock_mhz", self.clock_mhz, 0, 2000, above=True)


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
    seed: int = MISSING
    train_limit: int | None = MISSING
    validation: float = MISSING
    test: float = MISSING
    low: float = MISSING
    high: float = MISSING
    download: bool = MISSING
    split: str | None = MISSING
    crop: int | None = MISSING
    shift: int | None = MISSING
    warp: int | None = MISSING
    steps: int | None = MISSING
    pool: int | None = MISSING
    channels: int | None = MISSING
    classes: int | None = MISSING
    samples: int | None = MISSING
    options: dict[str, Any] = MISSING

    def __post_init__(self):
        whole("task.seed", self.seed, 0, MAX_SEED)
        if self.train_limit is not None:
            whole("task.train_limit", self.train_limit, 1, 2**31)
        number("task.validation", self.validation, 0, 0.5, above=True)
        number("task.test", self.test, 0, 0.5, above=True)
        if self.validation + self.test > 0.8:
            raise Refused(
                "task.validation and task.test must leave a fifth of the samples for training, "
                f"got {self.validation:g} + {self.test:g}"
            )
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise Refused(f"task.low must be below task.high, both finite, got {self.low} and {self.high}")
        if self.split is not None:
            one_of("task.split", self.split, ("official", "speakers"))
        for name, low, high in (
            ("crop", 0, 2**15), ("shift", 0, 16), ("warp", 0, 64), ("steps", 1, MAX_TIMESTEPS),
            ("pool", 1, MAX_WIDTH), ("channels", 1, MAX_WIDTH), ("classes", 2, MAX_WIDTH),
            ("samples", 1, 2**31),
        ):  # fmt: skip
            if getattr(self, name) is not None:
                whole(f"task.{name}", getattr(self, name), low, high)


@dataclass
class Train:
    """How a candidate is trained in the search, and how the front is trained after it."""

    epochs: int = MISSING  # of a candidate in the search
    samples: int | None = MISSING  # of an epoch in the search, drawn anew for each; null: all there are
    full_epochs: int = MISSING  # of a member of the front
    final_seeds: int = MISSING  # how often each member of the front is trained
    batch_size: int = MISSING
    learning_rate: float = MISSING
    prune_by: str = MISSING  # what stays of a sparse layer: one of PRUNE_BY
    prune_per: str = MISSING  # what a density is of: one of PRUNE_PER
    regrow: float = MISSING  # share of its synapses that moves to where the gradient is largest; 0: none

    def __post_init__(self):
        one_of("train.prune_by", self.prune_by, PRUNE_BY)
        one_of("train.prune_per", self.prune_per, PRUNE_PER)
        number("train.regrow", self.regrow, 0, 1)
        whole("train.epochs", self.epochs, 1, 100_000)
        if self.samples is not None:
            whole("train.samples", self.samples, 1, 2**31)
        whole("train.full_epochs", self.full_epochs, 1, 100_000)
        whole("train.final_seeds", self.final_seeds, 1, 1000)
        whole("train.batch_size", self.batch_size, 1, 2**20)
        number("train.learning_rate", self.learning_rate, 0, 10, above=True)


@dataclass
class Budgets:
    """Upper limits of a feasible candidate; null is the capacity of the target (latency: none)."""

    luts: int | None = MISSING
    ffs: int | None = MISSING
    brams: int | None = MISSING
    latency_us: float | None = MISSING

    def __post_init__(self):
        for name, low in (("luts", 1), ("ffs", 1), ("brams", 0)):
            if getattr(self, name) is not None:
                whole(f"search.budgets.{name}", getattr(self, name), low, 2**31)
        if self.latency_us is not None:
            number("search.budgets.latency_us", self.latency_us, 0, 1e9, above=True)


@dataclass
class Winner:
    """The rule that picks one network from the front, fixed before the search begins.

    Among the members whose validation accuracy is at most `within` below the best one (0.01 is one
    point), the member with the smallest `smallest`, one of OBJECTIVES.
    """

    within: float = MISSING
    smallest: str = MISSING

    def __post_init__(self):
        number("search.winner.within", self.within, 0, 1)
        one_of("search.winner.smallest", self.smallest, OBJECTIVES)


@dataclass
class Search:
    seed: int = MISSING  # of everything random but the splits of the data
    population_size: int = MISSING
    generations: int = MISSING
    objectives: list[str] = MISSING  # of OBJECTIVES, all minimised
    budgets: Budgets = MISSING
    winner: Winner = MISSING
    max_failed_share: float = MISSING  # of a generation; more failures end the search
    archive: str | None = MISSING  # one that several runs share, which lends them trainings; null: none
    mode: str = MISSING  # of MODES

    def __post_init__(self):
        whole("search.seed", self.seed, 0, MAX_SEED)
        whole("search.population_size", self.population_size, 2, 65536)
        whole("search.generations", self.generations, 1, 1_000_000)
        one_of("search.mode", self.mode, MODES)
        if not self.objectives:
            raise Refused(f"search.objectives must hold one or more of {', '.join(OBJECTIVES)}, got none")
        for objective in self.objectives:
            one_of("search.objectives", objective, OBJECTIVES)
        if len(set(self.objectives)) < len(self.objectives):
            raise Refused(f"search.objectives must differ from each other, got {list(self.objectives)}")
        number("search.max_failed_share", self.max_failed_share, 0, 1)


@dataclass
class Executor:
    """Where candidates are trained. workers: processes; 0 for one per core. memory_gib: for one group.
    timeout_s: for one group; null: no limit. address, cpus, gpus: of a Ray cluster, see trials.cluster."""

    name: str = MISSING
    workers: int = MISSING
    device: str = MISSING
    memory_gib: float = MISSING
    timeout_s: float | None = MISSING
    address: str | None = MISSING
    cpus: float = MISSING
    gpus: float = MISSING

    def __post_init__(self):
        one_of("executor.name", self.name, EXECUTORS)
        whole("executor.workers", self.workers, 0, 4096)
        one_of("executor.device", self.device, DEVICES)
        number("executor.memory_gib", self.memory_gib, 0, 1_000_000, above=True)
        if self.timeout_s is not None:
            number("executor.timeout_s", self.timeout_s, 0, 1e7, above=True)
        number("executor.cpus", self.cpus, 0, 4096, above=True)
        number("executor.gpus", self.gpus, 0, 64, above=True)


@dataclass
class Build:
    """What is done to the winner. timeout_s: for every tool."""

    simulate: bool = MISSING  # the RTL on every test sample
    synthesize: bool = MISSING  # place and route, and a bitstream
    prove: bool = MISSING  # that the design is the network
    timeout_s: float = MISSING

    def __post_init__(self):
        number("build.timeout_s", self.timeout_s, 0, 1e7, above=True)


@dataclass
class Benchmark:
    """What job=benchmark measures. python: the interpreter that has the peers (make peers); peers: names of
    scnas.peers.PEERS. population: networks of each population, of which a peer trains `sample`. Learning
    rates are peaks of the same schedule. curve: largest population of the curves; 0 for no curves."""

    python: str = MISSING
    peers: list[str] = MISSING
    population: int = MISSING
    sample: int = MISSING
    timesteps: int = MISSING
    epochs: int = MISSING
    batch_size: int = MISSING
    learning_rate: float = MISSING
    peers_learning_rate: float = MISSING
    repeats: int = MISSING
    curve: int = MISSING

    def __post_init__(self):
        for peer in self.peers:
            one_of("benchmark.peers", peer, PEERS)
        whole("benchmark.population", self.population, 1, 64)
        whole("benchmark.sample", self.sample, 1, 64)
        whole("benchmark.timesteps", self.timesteps, 1, 256)
        if not is_power_of_two(self.timesteps):
            raise Refused(f"benchmark.timesteps must be a power of two, got {self.timesteps}")
        whole("benchmark.epochs", self.epochs, 1, 1000)
        whole("benchmark.batch_size", self.batch_size, 1, 2**20)
        number("benchmark.learning_rate", self.learning_rate, 0, 10, above=True)
        number("benchmark.peers_learning_rate", self.peers_learning_rate, 0, 10, above=True)
        whole("benchmark.repeats", self.repeats, 1, 100)
        whole("benchmark.curve", self.curve, 0, 4096)


@dataclass
class Config:
    """Everything a run depends on. job: one of JOBS. run: the folder of a finished run, for the jobs
    that look at one. runs: those that job=compare puts side by side. plugins: modules and .py files of the
    user's own, imported before anything else (scnas.plugins)."""

    job: str = MISSING
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

    def __post_init__(self):
        one_of("job", self.job, JOBS)


ConfigStore.instance().store(name="schema", node=Config)
GROUPS = (*(f.name for f in fields(Config) if is_dataclass(get_type_hints(Config)[f.name])), "experiment")
