"""The story of a run: search, retrain the front, choose, open the test data, build, check, record."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from scnas import executor, realize, record, tasks, winner
from scnas.config import Config, Winner
from scnas.hardware import targets
from scnas.randomness import integer
from scnas.search import (
    Evaluation,
    Evaluator,
    Generation,
    Reference,
    capacity,
    describe,
    evolve,
    likely_to_fit,
    nothing_fits,
    pareto_front,
)
from scnas.snn.training import Budget


def run(settings: Config, folder: Path) -> None:
    """Do the job that `settings` name; `folder` is for what a search leaves behind."""
    match settings.job:
        case "search":
            search(settings, folder)
        case "verify" | "synthesize" as job:
            if settings.run is None:
                raise ValueError(f"run must name the folder of a finished run for job={job}, got null")
            finished = Path(settings.run)
            if job == "verify":
                lines = winner.verify(finished, settings.build)
            else:
                lines = realize.synthesize(finished, settings.build.timeout_s)
            for line in lines:
                print(line, flush=True)
            if not any(folder.iterdir()):  # what these jobs find lies with the run they look at
                folder.rmdir()
        case "calibrate":
            for line in realize.calibrate(settings.target.name, folder, settings.build.timeout_s):
                print(line, flush=True)


def search(settings: Config, folder: Path) -> None:
    """Search, retrain, choose, test, build, check; everything that is left behind lies in `folder`.

    Ctrl-C ends the stage it meets and records what is there. Raises ValueError, one line, where the
    data, the settings or the target leave nothing to find.
    """
    task = tasks.load(settings.task)
    space = settings.space.for_task(task)
    chip = targets.target(settings.target.name)
    if settings.target.clock_mhz is not None:
        chip = replace(chip, clock_mhz=settings.target.clock_mhz)
    limits = settings.search.budgets
    budgets = capacity(
        chip, luts=limits.luts, ffs=limits.ffs, brams=limits.brams, latency_us=limits.latency_us
    )
    reference = Reference(tuple(settings.search.objectives), task.n_classes, chip)
    seed = settings.search.seed
    record.begin(folder, settings)
    with (
        executor.Local(task, settings.executor.workers, settings.executor.device) as local,
        record.Recorder(folder, settings, chip, reference) as recorder,
    ):
        brief = budget(settings, settings.train.epochs)
        evaluator = Evaluator(chip, budgets, train=lambda batch: local.train(batch, brief, [seed])[0])
        generation, interrupted = None, False
        try:
            first = likely_to_fit(space, settings.search.population_size, chip, budgets, seed)
            generations = evolve(space, evaluator, reference, settings.search.population_size, seed, first)
            for generation in generations:
                recorder.generation(generation)
                _check_failures(generation, settings.search.max_failed_share)
                if generation.number + 1 >= settings.search.generations:
                    break
        except KeyboardInterrupt:
            interrupted = True
        if generation is None:
            raise KeyboardInterrupt  # nothing was evaluated, so there is nothing to keep
        if not generation.front:
            raise nothing_fits(generation.archive, budgets)

        members = generation.front
        if not interrupted:
            recorder.stage(
                f"training the {len(members)} of the front in full, {settings.train.final_seeds} seeds each"
            )
            try:
                members = retrain(members, evaluator, local, settings)
            except KeyboardInterrupt:
                interrupted = True

        # Ranked again by what the full budget made of them; the test data decide nothing after this.
        front = pareto_front(members, settings.search.objectives)
        ranked = by_rule(front, settings.search.winner)
        test = task.open_test()
        front = [_with(m, {"test_accuracy": winner.accuracy(m.network, test)}) for m in front]
        for chosen in ranked:
            recorder.stage(f"building {describe(chosen.architecture)}")
            built = winner.build(
                chosen.network, chosen.architecture.name, test, chip, settings.build, folder / "winner",
                folder / "synthesis",
            )  # fmt: skip
            if built.fits:
                break
            recorder.note(f"{describe(chosen.architecture)} does not route, the next by the rule is taken")
        else:
            raise ValueError(
                f"none of the {len(ranked)} members of the front that the rule allows can be routed on "
                f"{chip.title}; search.winner.within is {settings.search.winner.within:g}"
            )
        front = [_with(m, built.figures if m.architecture == chosen.architecture else {}) for m in front]
        chosen = next(m for m in front if m.architecture == chosen.architecture)
        recorder.finish(generation, front, chosen, interrupted, built)
    if built.broken is not None:
        raise RuntimeError(f"the hardware of the winner is not what it should be: {built.broken}")


def budget(settings: Config, epochs: int) -> Budget:
    """What a training may spend under these settings."""
    train = settings.train
    return Budget(
        epochs=epochs,
        batch_size=train.batch_size,
        learning_rate=train.learning_rate,
        memory_gib=settings.executor.memory_gib,
    )


def retrain(
    front: Sequence[Evaluation], evaluator: Evaluator, local: executor.Local, settings: Config
) -> list[Evaluation]:
    """Each member of the front trained with the full budget and several seeds.

    Of the seeds that keep the budgets the one with the best validation accuracy is kept, of equals
    the one with the lower loss; metrics gain accuracy_mean and accuracy_sd over the seeds. A member
    of which no seed succeeds stays as the search knew it.
    """
    seeds = [integer(settings.search.seed, "final", i, high=2**31) for i in range(settings.train.final_seeds)]
    rows = local.train(
        [member.architecture for member in front], budget(settings, settings.train.full_epochs), seeds
    )
    members = []
    for member, trainings in zip(front, zip(*rows, strict=True), strict=True):
        tried = [evaluator.trained(trained) for trained in trainings]
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
        members.append(replace(best, metrics={**best.metrics, **spread}))
    return members


def by_rule(front: Sequence[Evaluation], rule: Winner) -> list[Evaluation]:
    """The members that may win, the winner first: of those whose validation accuracy is at most
    `rule.within` below the best, the smallest `rule.smallest`; of equals the more accurate one."""
    best = max(member.metrics["accuracy"] for member in front)
    near = [member for member in front if member.metrics["accuracy"] >= best - rule.within - 1e-12]
    return sorted(near, key=lambda e: (e.metrics[rule.smallest], e.metrics["error"], e.architecture.name))


def _with(member: Evaluation, metrics: dict[str, float]) -> Evaluation:
    return replace(member, metrics={**member.metrics, **metrics})


def _check_failures(generation: Generation, largest: float) -> None:
    tried = [e for e in generation.evaluated if e.trained or e.failed]
    failed = [e for e in tried if e.failed]
    if len(failed) > largest * len(tried):
        raise ValueError(
            f"search.max_failed_share is {largest:g}, but {len(failed)} of {len(tried)} candidates of "
            f"generation {generation.number} failed; the first: {failed[0].failed}"
        )
