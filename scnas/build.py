"""The chosen network becomes hardware: design, simulation, place and route; and all of it again on demand."""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from scnas import tasks
from scnas.contract import Refused
from scnas.equiv.verdict import Verdict, check_winner
from scnas.files import write_whole
from scnas.hardware.circuit.top import Design
from scnas.hardware.cost import energy, price
from scnas.hardware.targets import FAMILIES, Target
from scnas.hardware.tools import cosimulation, foreign, synthesis, testbench, toggles
from scnas.hardware.tools.cosimulation import CosimulationResult
from scnas.hardware.tools.synthesis import Synthesis
from scnas.hardware.tools.toggles import Toggles
from scnas.record import front
from scnas.settings import saved, schema
from scnas.snn.module import IntegerNetwork
from scnas.snn.network import Network
from scnas.tasks import Split

DESIGN = "// scnas design"  # what design.v begins with; the name of the architecture follows
NOTHING = {"synthesize": False, "simulate": False, "prove": False}  # settings that ask for no tool
TOO_LARGE = ("does_not_fit", "not_routed")  # states of a synthesis
BENCH_SAMPLES = 1000  # how many of the test samples go into the testbench's files


@dataclass(frozen=True)
class Built:
    """What the tools said of a design. None: not asked for."""

    design: Design
    manual: str  # ports, clocks, how to run the testbench and build a bitstream
    simulation: CosimulationResult | None
    routed: Synthesis | None
    verdict: Verdict | None
    toggles: Toggles | None = None
    simulated: Mapping[str, float] = field(default_factory=dict)  # metrics of the energy of those toggles

    @property
    def page(self) -> str:
        """The hardware's part of winner/README.md: its manual and what was checked."""
        checks = "".join(f"- {line}\n" for line in self.lines()) or "- nothing (build=none)\n"
        return f"{self.manual}\n## What was checked\n\n{checks}"

    @property
    def fits(self) -> bool:
        """False where place and route said that the design does not fit its chip or cannot be routed."""
        return self.routed is None or self.routed.status not in TOO_LARGE

    @property
    def broken(self) -> str | None:
        """Why the hardware cannot be trusted, or None: RTL that differs, or a tool that broke."""
        if self.simulation is not None and self.simulation.status in ("failed", "error"):
            return self.simulation.summary()
        if self.routed is not None and self.routed.status == "error":
            return routed_line(self.routed)
        if self.toggles is not None and self.toggles.status in ("failed", "error"):
            return self.toggles.summary()
        if self.verdict is not None and self.verdict.status in ("refuted", "error"):
            return self.verdict.summary()
        return None

    @property
    def figures(self) -> dict[str, float]:
        """Real counterparts of the modelled metrics, where the tools gave them."""
        return {**({} if self.routed is None else self.routed.figures), **self.simulated}

    def lines(self) -> Iterator[str]:
        """What was found, a line each, for the terminal."""
        if self.routed is not None:
            yield routed_line(self.routed)
        if self.simulation is not None:
            yield self.simulation.summary().replace(" samples (", " test samples (")
        if self.toggles is not None:
            yield self.toggles.summary()
        if self.verdict is not None:
            yield self.verdict.summary()


def routed_line(found: Synthesis) -> str:
    """One line on what synthesis, placement and routing gave."""
    if found.status == "not_run":
        return f"synthesis not run: {found.message}"
    if found.status != "done":
        return f"synthesis {found.status.replace('_', ' ')}: {found.message}"
    counts = f"{found.luts:,} LUTs, {found.ffs:,} FFs, {found.brams} BRAMs"
    speed = f", {found.fmax_mhz:.1f} MHz" if found.fmax_mhz else ""
    did = {"route": "placed and routed", "pack": "packed", "synthesis": "synthesised only"}[found.reached]
    return f"{did}: {counts}{speed}"


def route(network: Network, name: str, target: Target, settings: schema.Build, cache: Path) -> Synthesis:
    """What the tools make of the design of `network`; build() finds it in `cache`."""
    design = synthesis.design_for(network, target, name)
    return synthesis.synthesize(
        "\n".join(design.sources.values()), design.top, target, timeout_s=settings.timeout_s, cache=cache
    )


def build(
    network: Network,
    name: str,
    test: Split,
    target: Target,
    settings: schema.Build,
    run_folder: Path,
    routed: Synthesis | None = None,
) -> Built:
    """Write the design of `network` with its testbench into the folder `winner` of a run, place and route
    it, simulate it on the whole test split and prove it, as far as `settings` ask for it.

    Leaves network.json, design.v, the cells, the testbench with the first samples, synthesis.json
    and, where it was routed, the bitstream, cosimulation.json, toggles.json and verdict.json. What does
    not fit is not looked at further. routed: what route() said of it, with the run's cache.
    """
    folder = run_folder / "winner"
    if folder.exists():
        shutil.rmtree(folder)  # of a run that was broken off
    folder.mkdir()
    network.save(folder / "network.json")
    design = synthesis.design_for(network, target, name)
    if not settings.synthesize:
        routed = None
    elif routed is None or routed.status == "done":  # then it is in the cache, with its bitstream
        routed = _bitstream(design, target, settings, run_folder)
    if routed is not None:
        _save(folder / "synthesis.json", routed)
    expected = cosimulation.expectation(network, test.x)
    manual = _testbench(network, design, test, expected, folder, synthesis.recipe(target, design, routed))
    built = Built(design, manual, None, routed, None)
    if not built.fits:
        return built
    if settings.simulate:
        simulation = cosimulation.cosimulate(
            network, test.x, design=design, expected=expected, seconds=settings.timeout_s
        )
        _save(folder / "cosimulation.json", simulation)
        built = replace(built, simulation=simulation)
    if settings.simulate and settings.synthesize:
        found = toggles.count(network, design, target, test.x, expected=expected, seconds=settings.timeout_s)
        _save(folder / "toggles.json", found)
        built = replace(built, toggles=found, simulated=_energy(found, built, network, target))
    if settings.prove:
        verdict = check_winner(folder, timeout_s=settings.timeout_s, simulation=built.simulation)
        built = replace(built, verdict=verdict)
    return built


def _bitstream(design: Design, target: Target, settings: schema.Build, run_folder: Path) -> Synthesis:
    """What the tools make of `design`, its bitstream beside it in the folder `winner` of a run."""
    suffix = FAMILIES[target.family].suffix
    found = synthesis.synthesize(
        "\n".join(design.sources.values()),
        design.top,
        target,
        timeout_s=settings.timeout_s,
        cache=run_folder / "synthesis",
        bitstream=run_folder / "winner" / f"design.{suffix}" if suffix else None,
    )
    return found if found.bitstream is None else replace(found, bitstream=Path(found.bitstream).name)


def _testbench(
    network: Network,
    design: Design,
    test: Split,
    expected: cosimulation.Expected,
    folder: Path,
    recipe: str,
) -> str:
    """Write the testbench with the first test samples; returns the manual, which tells how to run it."""
    spikes = cosimulation.input_spikes(network, test.x[:BENCH_SAMPLES])
    testbench.write_folder(
        network,
        design,
        folder,
        cosimulation.transfers(network, design, spikes),
        expected.scores[:BENCH_SAMPLES],
        expected.classes[:BENCH_SAMPLES],
    )
    return testbench.readme(network, design, len(spikes), recipe)


def _energy(found: Toggles, built: Built, network: Network, target: Target) -> dict[str, float]:
    """Metrics of the energy that the toggles of a netlist make; none where they were not counted."""
    if not found.counted:
        return {}
    clocks, clock = built.design.latency_clocks, price.measure(network, target).clock_mhz
    if built.routed is not None and built.routed.fmax_mhz:
        clock = min(target.clock_mhz, built.routed.fmax_mhz)
    latency_us, toggled = np.asarray(clocks / clock), np.asarray(found.toggles)
    spent = energy.of_inference(target, latency_us, np.asarray(clocks), toggled)
    return {
        "toggles": round(found.toggles),
        "simulated_energy_nj": float(spent.nominal),
        "simulated_energy_low_nj": float(spent.low),
        "simulated_energy_high_nj": float(spent.high),
    }


def _save(path: Path, found: Synthesis | CosimulationResult | Toggles) -> None:
    write_whole(path, json.dumps(asdict(found), indent=1) + "\n")


# -- again, on an existing run --------------------------------------------------------------------


def verify(run_folder: Path, settings: schema.Build) -> Iterator[str]:
    """Check the winner of an existing run from its files alone; what was found, a line each.

    The accuracy in front.json is recomputed on the test split; design.v and the cells are compared
    with what the network generates; what lies there is simulated on every test sample and proved,
    unless `settings` say otherwise. No tool gets a design that does more than describe logic.
    Raises Refused where the folder is no run, and where something does not hold.
    """
    settings_of_run = saved.read(run_folder / "settings.yaml")
    found = front.read(run_folder, networks=False)
    place = run_folder / "winner"
    network = Network.load(place / "network.json")
    sources = foreign.read_sources(place)
    task = tasks.load(replace(settings_of_run.task, download=False))  # a file may not order a download
    test = task.open_test()
    wrong = []

    told = found.members[found.winner].metrics.get("test_accuracy")
    if told is None or (network.n_inputs, network.n_classes) != (task.n_inputs, task.n_classes):
        raise Refused(f"{run_folder}: the winner and the task of settings.yaml do not belong together")
    measured = accuracy(network, test)
    line = f"test accuracy {measured:.2%} on {len(test.y)} samples, {told:.2%} in front.json"
    if measured != told:
        wrong.append(line)
    yield line

    design, differing = _compared(network, settings_of_run.target.name, sources)
    line = f"design.v and {len(design.cells)} cells are what the network generates"
    if differing:
        line = f"not what the network generates: {', '.join(differing)}"
        wrong.append(line)
    yield line

    simulation = None
    cells = [name for name in differing if name != "design.v"]
    if settings.simulate and cells:
        yield f"not simulated: the simulation takes its cells from the package, and {cells[0]} differs"
    elif settings.simulate:
        simulation = cosimulation.cosimulate(network, test.x, design=design, seconds=settings.timeout_s)
        _save(place / "cosimulation.json", simulation)
        line = simulation.summary().replace(" samples (", " test samples (")
        if simulation.status in ("failed", "error"):
            wrong.append(line)
        yield line
    if settings.prove:
        verdict = check_winner(place, timeout_s=settings.timeout_s, simulation=simulation)
        if verdict.status in ("refuted", "error"):
            wrong.append(verdict.summary())
        yield verdict.summary()
    if wrong:
        raise Refused(f"{run_folder}: {'; '.join(wrong)}")


def _compared(network: Network, target: str, sources: Mapping[str, str]) -> tuple[Design, list[str]]:
    """The design of `network` with the design.v of `sources`, and the files that are not as generated."""
    header = sources["design.v"].partition("\n")[0]
    design = synthesis.design_for(network, target, name=header[len(DESIGN) :].strip())
    differing = [name for name, text in design.sources.items() if sources.get(name) != text]
    return replace(design, text=sources["design.v"]), differing


def accuracy(network: Network, split: Split, batch_size: int = 500) -> float:
    """Share of `split` that the exported integer network classifies correctly."""
    module = IntegerNetwork(network)
    right = 0
    for start in range(0, len(split.y), batch_size):
        part = slice(start, start + batch_size)
        right += int(np.sum(module.predict(split.x[part]).numpy() == split.y[part]))
    return right / len(split.y)
