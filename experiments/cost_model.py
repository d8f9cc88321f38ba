"""How far is the cost model from synthesis? Builds the designs of the plan, fits, and writes the record.

python experiments/cost_model.py ice40 --designs 90          # builds what the CSV does not hold yet
python experiments/cost_model.py ice40 --fit-only --publish  # fits what it holds, for the cost model
"""

import argparse
from pathlib import Path

from scnas.hardware import calibration

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("--designs", type=int, default=90)
    parser.add_argument("--plan", type=int, default=1, help="1 or 2: seed of the plan; 2 numbers from 200")
    parser.add_argument("--level", default="pack", help="pack for cells alone, route for the clock as well")
    parser.add_argument("--fit-only", action="store_true", help="build nothing")
    parser.add_argument(
        "--publish", action="store_true", help="put the figures where the cost model reads them"
    )
    settings = parser.parse_args()
    path = HERE / f"cost_model_{settings.target}.csv"
    if not settings.fit_only:
        calibration.collect(
            calibration.plan(90, settings.plan)[: settings.designs],
            settings.target,
            path,
            first=100 * settings.plan,
            level=settings.level,
        )
    rows = calibration.read_rows(path)
    found = calibration.fit(rows, settings.target)
    print(calibration.error_table(found))
    fitted = [row for row in found.table if not row["held_out"]]  # the others stay unseen
    for row in sorted(fitted, key=lambda r: -abs(r["luts_model"] / r["luts_real"] - 1))[:8]:
        print(row)
    calibration.parity_plot(found, HERE / f"cost_model_{settings.target}.png")
    if settings.publish:
        calibration.publish(found, rows)


if __name__ == "__main__":
    main()
