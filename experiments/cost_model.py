"""How far is the cost model from synthesis? Builds designs of a plan, fits, and writes the record.

python experiments/cost_model.py ice40                       # builds what the CSV does not hold yet
python experiments/cost_model.py ice40 --plan 3 --first 9 --designs 18
python experiments/cost_model.py ice40 --fit-only --publish  # fits what it holds, for the cost model
python experiments/cost_model.py ice40_up5k --designs 6 --publish  # another chip of a fitted family
"""

import argparse
from pathlib import Path

from scnas.hardware import targets
from scnas.hardware.cost import calibration, plan, price

HERE = Path(__file__).parent
DESIGNS = {1: 90, 2: 90, 3: 72}  # of each plan: with another number its designs are others


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("target", choices=targets.TARGETS)
    parser.add_argument("--plan", type=int, default=1, choices=plan.PLANS)
    parser.add_argument("--first", type=int, default=0, help="of the plan, to be built")
    parser.add_argument("--designs", type=int, default=90, help="how many of the plan")
    parser.add_argument("--level", default="route", help="route for cells and the clock, pack for cells")
    parser.add_argument("--cache", help="folder of earlier results")
    parser.add_argument("--fit-only", action="store_true", help="build nothing")
    parser.add_argument(
        "--publish", action="store_true", help="put the figures where the cost model reads them"
    )
    settings = parser.parse_args()
    path = HERE / f"cost_model_{settings.target}.csv"
    if not settings.fit_only:
        calibration.collect(
            plan.plan(DESIGNS[settings.plan], settings.plan)[settings.first :][: settings.designs],
            settings.target,
            path,
            first=100 * settings.plan + settings.first,
            level=settings.level,
            cache=settings.cache,
        )
    rows = calibration.read_rows(path)
    family = targets.target(settings.target).family
    if price.FITTED.get(family, {}).get("target", settings.target) != settings.target:
        check_another_chip(rows, settings.target, settings.publish)
        return
    found = calibration.fit(rows, settings.target)
    print(calibration.error_table(found))
    for plans in ((0, 1, 2), (3,)):
        table = [row for row in found.table if row["held_out"] and row["design"] // 100 in plans]
        if table:
            print(f"held out of plan {', '.join(map(str, plans))}:")
            for name, e in calibration.errors(table).items():
                print(f"  {name}: {e['designs']} designs, mean {e['mean']:.1%}, largest {e['max']:.1%}")
    fitted = [row for row in found.table if not row["held_out"]]  # the others stay unseen
    for row in sorted(fitted, key=lambda r: -abs(r["luts_model"] / r["luts_real"] - 1))[:8]:
        print(row)
    calibration.parity_plot(found, HERE / f"cost_model_{settings.target}.png")
    if settings.publish:
        calibration.publish(found, rows)


def check_another_chip(rows: list[dict], target: str, publish: bool) -> None:
    """How far off the figures of the family are on a chip that they were not fitted on; its speed."""
    table = [calibration.compare(row, calibration.network_of(row), target) for row in rows]
    for name, e in calibration.errors(table).items():
        print(f"{name}: {e['designs']} designs, mean {e['mean']:.1%}, largest {e['max']:.1%}")
    print("speed:", calibration.speed(rows, target))
    if publish:
        calibration.publish_speed(rows, target)


if __name__ == "__main__":
    main()
