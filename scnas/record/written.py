"""front.csv, front.json, front.png and the networks of the front."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scnas.evaluation import Evaluation
from scnas.files import write_whole
from scnas.hardware.targets import Target
from scnas.record.figures import png
from scnas.record.tables import _csv, _plain, proof

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_front(
    folder: Path,
    front: Sequence[Evaluation],
    winner: Evaluation,
    figure: "Figure",
    objectives: Sequence[str],
    title: str,
    target: Target,
) -> None:
    """front.csv, front.json, front.png and the networks of the front, front/00.json and so on.

    The row of the winner says what its proofs said, if winner/verdict.json is there.
    """
    (folder / "front").mkdir(exist_ok=True)
    status, obligations = proof(folder) or (None, None)
    rows = []
    for i, member in enumerate(front):
        network = None
        if member.network is not None:
            network = f"front/{i:02d}.json"
            member.network.save(folder / network)
        won = member.architecture == winner.architecture
        rows.append(
            {
                "name": member.architecture.name,
                "winner": won,
                "verdict": status if won else None,
                "obligations": obligations if won else None,
                "network": network,
                "metrics": _plain(member.metrics),
                "architecture": member.architecture.to_dict(),
            }
        )
    data = {
        "format": "scnas-front/1",
        "task": title,
        "target": target.name,
        "clock_mhz": target.clock_mhz,
        "energy_label": target.energy_label,
        "objectives": list(objectives),
        "members": rows,
    }
    write_whole(folder / "front.json", json.dumps(data, indent=1, allow_nan=False) + "\n")
    for path in (folder / "front").glob("*.json"):  # of a longer front that was written here before
        if f"front/{path.name}" not in [row["network"] for row in rows]:
            path.unlink()
    write_whole(folder / "front.csv", _csv(rows))
    write_whole(folder / "front.png", png(figure))
