"""From the front to its winner: the best of several seeds, the rule, and what place and route says of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from scnas import build
from scnas.contract import Refused
from scnas.evaluation import Evaluation
from scnas.hardware import targets
from scnas.hardware.cost import calibration, price
from scnas.hardware.cost.feedback import Feedback
from scnas.hardware.tools.synthesis import Synthesis
from scnas.record.recorder import Recorder
from scnas.search.evaluation import pareto_front
from scnas.settings.schema import Config, Winner
from scnas.snn.network import Network
from scnas.space import Architecture, describe


def best_of_seeds(front: Sequence[Evaluation], by_seed: Sequence[Sequence[Evaluation]]) -> list[Evaluation]:
    """Each member of the front as the best of its seeds; by_seed: the front trained with each seed.

    Of the seeds that keep the budgets the one with the best validation accuracy is taken, of equals the one
    with the lower loss; metrics gain accuracy_mean and accuracy_sd over the seeds. A member of which no seed
    succeeds stays as the search knew it.
    """
    members = []
    for member, tried in zip(front, zip(*by_seed, strict=True), strict=True):
        good = [e for e in tried if e.trained and e.feasible]
        if not good:
            members.append(member)
            continue
        accuracies = [e.metrics["accuracy"] for e in tried if e.trained]
        best = min(good, key=lambda e: (e.metrics["error"], e.metrics["validation_loss"]))
        spread = {
            "accuracy_mean": float(np.mean(accuracies)),
            "accuracy_sd": float(np.std(accuracies)),
            "seeds": len(accuracies),
        }
        members.append(with_metrics(best, spread))
    return members


def by_rule(front: Sequence[Evaluation], rule: Winner) -> list[Evaluation]:
    """The members that may win, the winner first.

    Of those whose validation accuracy is at most `rule.within` below the best, the smallest `rule.smallest`,
    routed where that is known; of equals the more accurate one.
    """
    best = max(member.metrics["accuracy"] for member in front)
    near = [member for member in front if member.metrics["accuracy"] >= best - rule.within - 1e-12]

    def size(member: Evaluation) -> float:
        return member.metrics.get(f"routed_{rule.smallest}", member.metrics[rule.smallest])

    return sorted(near, key=lambda e: (size(e), e.metrics["error"], e.architecture.name))


def choose(
    front: Sequence[Evaluation],
    chip: targets.Target,
    budgets: Mapping[str, float | None],
    settings: Config,
    folder: Path,
    recorder: Recorder,
) -> tuple[list[Evaluation], Evaluation, Synthesis | None]:
    """The front, its winner by the rule, and what the tools made of the winner's design if they were asked.

    A member whose design cannot be routed, or exceeds the `budgets` once it is, leaves the front, and the
    next by the rule is taken. What is placed and routed on the way goes back into the cost model: where its
    LUTs are further off than was published, the front is priced again with figures refitted to these
    designs, and the rule asked again. The designs are kept in `folder`. Raises Refused if nothing fits.
    """
    front, rule = list(front), settings.search.winner
    if not settings.build.synthesize:
        return front, by_rule(front, rule)[0], None
    (folder / calibration.RUN_FILE).unlink(missing_ok=True)  # of this run, broken off: it comes again
    feedback = Feedback(folder, chip)
    routed: dict[Architecture, Synthesis] = {}
    while front:
        chosen = by_rule(front, rule)[0]
        network, architecture = network_of(chosen), chosen.architecture
        if architecture in routed:
            return front, chosen, routed[architecture]
        told = describe(architecture)
        recorder.stage(f"placing and routing {told}")
        found = build.route(network, architecture.name, chip, settings.build, folder / "synthesis")
        routed[architecture] = found
        real = _routed_figures(chosen, found, chip)
        if (fmax := real.get("fmax_mhz", math.inf)) < chip.clock_mhz:
            recorder.note(f"{told} routes at {fmax:g} MHz, the target has {chip.clock_mhz:g} MHz")
        if why := _unfit(found, real, budgets):
            recorder.note(f"{told} {why}, the next by the rule is taken")
            front = [m for m in front if m.architecture != architecture]
        else:
            front = [with_metrics(m, real) if m.architecture == architecture else m for m in front]
        before = feedback.figures
        feedback.add(network, architecture, found)
        if feedback.figures != before:
            recorder.note(feedback.note)
            repriced = [_repriced(m, chip, feedback.figures) for m in front]
            front = pareto_front(repriced, settings.search.objectives)
    raise Refused(f"none of the {len(routed)} members of the front can be routed on {chip.title} in budget")


def _routed_figures(member: Evaluation, found: Synthesis, chip: targets.Target) -> dict[str, float]:
    """Real counterparts of the modelled metrics, the latency at the clock that the routed design reaches."""
    real = dict(found.figures)
    if "latency_clocks" in member.metrics and "fmax_mhz" in real:
        real["routed_latency_us"] = member.metrics["latency_clocks"] / min(chip.clock_mhz, real["fmax_mhz"])
    return real


def _unfit(found: Synthesis, real: Mapping[str, float], budgets: Mapping[str, float | None]) -> str:
    """Why a routed design cannot win, "" if it can."""
    over = [
        f"{real[f'routed_{name}']:g} {name} of {limit:g}"
        for name, limit in budgets.items()
        if limit is not None and real.get(f"routed_{name}", 0) > limit
    ]
    if over:
        return f"exceeds its budgets routed ({', '.join(over)})"
    return "does not route" if found.status in build.TOO_LARGE else ""


def _repriced(member: Evaluation, chip: targets.Target, figures: dict[str, float] | None) -> Evaluation:
    """`member` with LUTs of a refitted model, and those of the published one beside them."""
    luts = price.measure(network_of(member), chip, figures=figures).luts
    published = member.metrics.get("published_luts", member.metrics["luts"])
    return with_metrics(member, {"luts": luts, "published_luts": published})


def network_of(member: Evaluation) -> Network:
    """The network of a member of the front: what was never trained is in no front."""
    assert member.network is not None
    return member.network


def with_metrics(member: Evaluation, metrics: Mapping[str, float]) -> Evaluation:
    """`member` with these metrics besides its own."""
    return replace(member, metrics={**member.metrics, **metrics})
