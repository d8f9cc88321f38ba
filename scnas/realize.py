"""What the tools make of designs that were only modelled: the jobs `synthesize` and `calibrate`."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from scnas.contract import Refused
from scnas.hardware import targets
from scnas.hardware.cost import calibration, price
from scnas.hardware.cost.feedback import Feedback
from scnas.hardware.tools import synthesis
from scnas.record import figures, front, written
from scnas.trials import archive

DESIGNS = 90  # of a calibration
_DID = {"route": "routed", "pack": "packed", "synthesis": "synthesised"}


def synthesize(run_folder: Path, timeout_s: float) -> Iterator[str]:
    """Place and route every member of the front of a finished run; a line each, and one on the model.

    Writes front.csv, front.json and front.png again with routed_luts, routed_ffs, routed_brams and
    fmax_mhz beside the modelled figures, as far as the tools give them, after every member: what was
    built is kept in the run's `synthesis` folder and not built again. The designs join the run's
    calibration.csv. timeout_s: for every design.
    Raises Refused where the folder is no run or a tool is not installed.
    """
    found = front.read(run_folder)
    chip = replace(targets.target(found.target), clock_mhz=found.clock_mhz)
    members, winner = list(found.members), found.members[found.winner]
    others = archive.searched(run_folder)
    feedback = Feedback(run_folder, chip)
    off = []
    for i, member in enumerate(members):
        if member.network is None:
            continue
        design = synthesis.design_for(member.network, chip, name=member.architecture.name)
        built = synthesis.synthesize(
            "\n".join(design.sources.values()),
            design.top,
            chip,
            timeout_s=timeout_s,
            cache=run_folder / "synthesis",
        )
        if built.status == "not_run":
            raise Refused(f"job=synthesize cannot place and route: {built.message}")
        feedback.add(member.network, member.architecture, built)
        won = member is winner
        members[i] = replace(member, metrics={**member.metrics, **built.figures})
        winner = members[i] if won else winner
        figure = figures.front_figure(members, chip, found.task, others, winner)
        written.write_front(run_folder, members, winner, figure, found.objectives, found.task, chip)
        modelled = member.metrics.get("published_luts", member.metrics["luts"])  # of no fit to this run
        told = f"{found.files[i]}: {modelled:,.0f} {chip.lut_unit}s modelled, "
        if built.luts is None:
            yield f"{told}{built.status}: {built.message}"
            continue
        off.append(abs(modelled / max(built.luts, 1) - 1))
        speed = f", {built.fmax_mhz:g} MHz" if built.fmax_mhz else ""
        state = "" if built.status == "done" else f", {built.status.replace('_', ' ')}"
        yield f"{told}{built.luts:,} {_DID[built.reached]}{speed}{state}"
    if off:
        published = _published(found.target)
        yield (
            f"modelled {chip.lut_unit}s are off by {sum(off) / len(off):.1%} on average, {max(off):.1%} at "
            f"most, on {len(off)} designs{published}"
        )


def _published(name: str) -> str:
    fitted = price.FITTED.get(targets.target(name).family)
    if fitted is None:
        return "; the model of this family was never fitted"
    known = fitted["held_out"]["luts"]
    return f"; published for {fitted['target']}: {known['mean']:.1%} and {known['max']:.1%}"


def calibrate(target: str, folder: Path, timeout_s: float, designs: int = DESIGNS) -> Iterator[str]:
    """Build a plan of designs on `target`, fit the cost model to them, and say how far off it is.

    Leaves calibration.csv, which grows as designs are built and is taken up again by the same command
    with the same folder, figures.json for hardware.cost.price, and parity.png. Raises Refused where a
    tool is not installed or too few designs were built.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "calibration.csv"
    yield f"building {designs} designs for {target}, each in its own row of {path}"
    try:
        found = calibration.calibrate(target, path, designs, timeout_s=timeout_s)
    except RuntimeError as error:
        raise Refused(f"job=calibrate cannot build designs: {error}") from None
    rows = calibration.read_rows(path)
    calibration.publish(found, rows, folder / "figures.json")
    calibration.parity_plot(found, folder / "parity.png")
    yield from calibration.error_table(found).splitlines()
    yield f"{folder}: calibration.csv, figures.json, parity.png"
