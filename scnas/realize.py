"""What the tools make of designs that were only modelled: the jobs `synthesize` and `calibrate`."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from scnas import config, record
from scnas.files import read_json
from scnas.hardware import calibration, synthesis, targets
from scnas.search import Evaluation
from scnas.snn.network import Network
from scnas.space import Architecture

DESIGNS = 90  # of a calibration
_DID = {"route": "routed", "pack": "packed", "synthesis": "synthesised"}


def synthesize(run_folder: Path, timeout_s: float) -> Iterator[str]:
    """Place and route every member of the front of a finished run; a line each, and one on the model.

    Writes front.csv, front.json and front.png again with routed_luts, routed_ffs, routed_brams and
    fmax_mhz beside the modelled figures, as far as the tools give them, after every member: what was
    built is kept in the run's `synthesis` folder and not built again. timeout_s: for every design.
    Raises ValueError where the folder is no run or a tool is not installed.
    """
    data = read_json(run_folder / "front.json")
    settings = config.read(run_folder / "settings.yaml")
    try:
        rows, chip = data["members"], targets.target(data["target"])
        members = [
            Evaluation(
                Architecture(**row["architecture"]), dict(row["metrics"]), 0.0, True,
                network=Network.load(run_folder / row["network"]) if row["network"] else None,
            )
            for row in rows
        ]  # fmt: skip
        winner = next(m for m, row in zip(members, rows, strict=True) if row["winner"])
        chip, title, objectives = replace(chip, clock_mhz=data["clock_mhz"]), data["task"], data["objectives"]
    except (TypeError, KeyError, StopIteration):
        raise ValueError(f"{run_folder / 'front.json'} does not hold the front of a run") from None
    off = []
    for i, member in enumerate(members):
        if member.network is None:
            continue
        design = synthesis.design_for(member.network, chip, name=member.architecture.name)
        found = synthesis.synthesize(
            "\n".join(design.sources.values()), design.top, chip, timeout_s=timeout_s,
            cache=run_folder / "synthesis",
        )  # fmt: skip
        if found.status == "not_run":
            raise ValueError(f"job=synthesize cannot place and route: {found.message}")
        won = member is winner
        members[i] = replace(member, metrics={**member.metrics, **found.figures})
        winner = members[i] if won else winner
        figure = record.front_figure(members, chip, title, (), winner)
        record.write_front(run_folder, members, winner, figure, objectives, title, chip)
        modelled = member.metrics["luts"]
        told = f"{data['members'][i]['network']}: {modelled:,.0f} {chip.lut_unit}s modelled, "
        if found.luts is None:
            yield f"{told}{found.status}: {found.message}"
            continue
        off.append(abs(modelled / max(found.luts, 1) - 1))
        speed = f", {found.fmax_mhz:g} MHz" if found.fmax_mhz else ""
        state = "" if found.status == "done" else f", {found.status.replace('_', ' ')}"
        yield f"{told}{found.luts:,} {_DID[found.reached]}{speed}{state}"
    if off:
        published = _published(settings.target.name)
        yield (
            f"modelled {chip.lut_unit}s are off by {sum(off) / len(off):.1%} on average, {max(off):.1%} at "
            f"most, on {len(off)} designs{published}"
        )


def _published(name: str) -> str:
    from scnas.hardware.cost import FITTED

    fitted = FITTED.get(targets.target(name).family)
    if fitted is None:
        return "; the model of this family was never fitted"
    known = fitted["held_out"]["luts"]
    return f"; published for {fitted['target']}: {known['mean']:.1%} and {known['max']:.1%}"


def calibrate(target: str, folder: Path, timeout_s: float, designs: int = DESIGNS) -> Iterator[str]:
    """Build a plan of designs on `target`, fit the cost model to them, and say how far off it is.

    Leaves calibration.csv, which grows as designs are built and is taken up again by the same command
    with the same folder, figures.json for scnas.hardware.cost, and parity.png. Raises ValueError where a
    tool is not installed or too few designs were built.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "calibration.csv"
    yield f"building {designs} designs for {target}, each in its own row of {path}"
    try:
        found = calibration.calibrate(target, path, designs, level="pack", timeout_s=timeout_s)
    except RuntimeError as error:
        raise ValueError(f"job=calibrate cannot build designs: {error}") from None
    rows = calibration.read_rows(path)
    calibration.publish(found, rows, folder / "figures.json")
    calibration.parity_plot(found, folder / "parity.png")
    yield from calibration.error_table(found).splitlines()
    yield f"{folder}: calibration.csv, figures.json, parity.png"
