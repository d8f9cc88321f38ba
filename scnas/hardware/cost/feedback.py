"""What a run routed goes back into its cost model."""

import json
from collections.abc import Iterable
from pathlib import Path

from scnas.contract import Refused
from scnas.hardware import targets
from scnas.hardware.cost import fit_luts, price
from scnas.hardware.cost.blocks import PRIOR
from scnas.hardware.cost.calibration import (
    RUN_COLUMNS,
    RUN_FILE,
    read_rows,
    refit,
    row_of,
    write_rows,
)
from scnas.hardware.tools.synthesis import Synthesis, design_for
from scnas.snn.network import Network
from scnas.space import Architecture


class Feedback:
    """The designs that a run has synthesised, and the cost model refitted to them when it is off.

    They are kept in `calibration.csv` of the run's folder, each with its blocks, so that a run that is
    taken up again has them. figures: LUTs per block for price.estimate and price.measure, of a fit to the
    published designs and to these; None as long as the published figures are no further off on these than
    was published of held-out designs, and where a family was never fitted. note: one line on that, ""
    without a design or a fit.
    """

    def __init__(self, folder: str | Path, target: str | targets.Target):
        self.path = Path(folder) / RUN_FILE
        self.target = target if isinstance(target, str) else target.name
        self.figures: dict[str, float] | None = None
        self.note = ""
        self._rows = read_rows(self.path, RUN_COLUMNS) if self.path.exists() else []
        self._refit()

    def add(self, network: Network, architecture: Architecture, synthesis: Synthesis) -> None:
        """Take in what the tools made of a network; a design that is known or was not built is left out."""
        if synthesis.luts is None or synthesis.target != self.target:
            return
        design = design_for(network, self.target)
        row = row_of(str(len(self._rows)), architecture, design, synthesis)
        if any(row["verilog"] == known["verilog"] for known in self._rows):
            return
        self._rows.append(row | {"blocks": json.dumps(price.logic_blocks(network, self.target))})
        write_rows(self.path, self._rows, RUN_COLUMNS)
        self._refit()

    def _refit(self) -> None:
        family = targets.target(self.target).family
        fitted = price.FITTED.get(family)
        if not self._rows or fitted is None:
            return
        counts, luts = self._designs(PRIOR[family])
        published = fitted["held_out"]["luts"]["mean"]
        before = fit_luts.error_of(price.FIGURES[family], counts, luts)
        unit = targets.target(self.target).lut_unit
        self.note = (
            f"cost model: {unit}s are off by {before:.1%} on {len(luts)} routed in this run, "
            f"published {published:.1%}"
        )
        self.figures = None
        if before > published:
            self.figures = refit(fitted, counts, luts)
            self.note += f"; refitted with them: {fit_luts.error_of(self.figures, counts, luts):.1%}"

    def _designs(self, names: Iterable[str]) -> tuple[list[dict[str, float]], list[float]]:
        """Blocks and LUTs of every design; ValueError where the file, which may be a stranger's, is off."""
        try:
            blocks = [json.loads(row["blocks"]) for row in self._rows]
            counts = [{name: float(block[name]) for name in names} for block in blocks]
            luts = [float(row["luts"]) for row in self._rows]
        except (ValueError, TypeError, KeyError):
            counts, luts = [], [0.0]
        good = all(0 < n < 1e9 for n in luts) and all(0 <= v < 1e12 for c in counts for v in c.values())
        if not good:
            raise Refused(f"{self.path} does not hold the designs of a run")
        return counts, luts
