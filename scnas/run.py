"""The story of a run: search, retrain the front, choose, open the test data, build, check, record."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np

from scnas import benchmark, build, compare, realize, tasks
from scnas.contract import Refused
from scnas.evaluation import Evaluation, Generation
from scnas.hardware import targets
from scnas.hardware.cost import calibration, price
from scnas.hardware.cost.feedback import Feedback
from scnas.hardware.tools.synthesis import Synthesis
from scnas.randomness import integer
from scnas.record import begin
from scnas.record.recorder import Recorder
from scnas.search.evaluation import Evaluator, Reference, capacity, describe, nothing_fits, pareto_front
from scnas.search.evolve import evolve, likely_to_fit
from scnas.search.steady import Feed, evolve_steady
from scnas.settings import saved, schema
from scnas.settings.schema import Config, Winner
from scnas.snn.budget import Budget
from scnas.space import Architecture
from scnas.trials import archive, cluster, executor, repair
from scnas.trials.archive import Archive
from scnas.trials.trainer import Trainer


def run(settings: Config, folder: Path) -> None:
    """Do the job that `settings` name; `folder` is for what a search leaves behind."""
    match settings.job:
        case "search":
            search(settings, folder)
        case "verify" | "synthesize" | "export" | "repair" as job:
            if settings.run is None:
                raise Refused(f"run must name the folder of a run for job={job}, got null")
            finished = Path(settings.run)
            saved.refuse_unnamed_plugins(finished)
            match job:
                case "verify":
                    lines = build.verify(finished, settings.build)
                case "synthesize":
                    lines = realize.synthesize(finished, settings.build.timeout_s)
                case "export":
                    lines = archive.export(finished)
                case "repair":
                    lines = repair.repair(finished)
            for line in lines:
                print(line, flush=True)
            if not any(folder.iterdir()):  # what these jobs find lies with the run they look at
                folder.rmdir()
        case "benchmark":
            device = executor.pick_device(settings.executor.device)
            for line in benchmark.benchmark(settings.benchmark, folder, device=device):
                print(line, flush=True)
        case "compare":
            for line in compare.compare(settings.runs, folder):
                print(line, flush=True)
        case "calibrate":
            for line in realize.calibrate(settings.target.name, folder, settings.build.timeout_s):
                print(line, flush=True)


def search(settings: Config, folder: Path) -> None:
    """Search, retrain, choose, test, build, check; everything that is left behind lies in `folder`.

    A folder with a run that was broken off, however it was, is taken up again: the search repeats itself
    and takes from the archive every training that was finished. One that is finished is left as it is.
    Ctrl-C ends the stage it meets and records what is there. Raises ValueError, one line, where the
    data, the settings, the target or the archive leave nothing to find.
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
    data = archive.fingerprint(task)
    begin.begin(folder, settings)
    with ExitStack() as stack:
        stack.enter_context(archive.held(folder))
        workers = stack.enter_context(executor_for(task, settings.executor))
        kept = stack.enter_context(Archive(folder / archive.NAME, data))
        kept.agree({"data": data, "device": workers.device, **archive.training_code()})
        if kept.fact("finished"):
            print(f"{folder} holds this run, finished; nothing is left to do", flush=True)
            return
        if known := kept.count():
            print(f"{folder}: {known} training groups are in its archive, and are not repeated", flush=True)
        shared = None
        if settings.search.archive is not None:
            shared = stack.enter_context(Archive(settings.search.archive, data))
        trainer = Trainer(task, workers, kept, shared)
        recorder = stack.enter_context(Recorder(folder, settings, chip, reference))
        brief = budget(settings, settings.train.epochs, settings.train.samples)
        evaluator = Evaluator(chip, budgets, train=lambda batch: trainer.train(batch, brief, [seed])[0])
        generation, interrupted = None, False
        try:
            first = likely_to_fit(space, settings.search.population_size, chip, budgets, seed)
            size = settings.search.population_size
            if settings.search.mode == "steady":
                kept.agree({"slots": str(workers.slots)})  # children depend on how many are on their way
                feed = Feed(evaluator, trainer, brief, seed)
                before = [e.architecture for e in kept.evaluations()]
                total = size * settings.search.generations
                generations = evolve_steady(space, feed, reference, size, seed, total, first, before)
            else:
                generations = evolve(space, evaluator, reference, size, seed, first)
            for generation in generations:
                kept.generation(generation, seed, brief)
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
                members = retrain(members, generation.number, evaluator, trainer, kept, settings)
            except KeyboardInterrupt:
                interrupted = True

        # Ranked again by what the full budget made of them; the test data decide nothing after this.
        front = pareto_front(members, settings.search.objectives)
        found = None
        try:
            front, chosen, found = choose(front, chip, budgets, settings, folder, recorder)
        except KeyboardInterrupt:
            interrupted, chosen = True, by_rule(front, settings.search.winner)[0]
        test = task.open_test()
        front = [_with(m, {"test_accuracy": build.accuracy(m.network, test)}) for m in front]
        recorder.stage(f"building {describe(chosen.architecture)}")

        def built_with(how: schema.Build) -> build.Built:
            return build.build(
                chosen.network, chosen.architecture.name, test, chip, how, folder / "winner",
                folder / "synthesis", found,
            )  # fmt: skip

        nothing = replace(settings.build, synthesize=False, simulate=False, prove=False)
        try:
            built = built_with(nothing if interrupted else settings.build)
        except KeyboardInterrupt:
            interrupted, built = True, built_with(nothing)
        front = [_with(m, built.figures if m.architecture == chosen.architecture else {}) for m in front]
        chosen = next(m for m in front if m.architecture == chosen.architecture)
        recorder.finish(generation, front, chosen, interrupted, built)
        if built.broken is not None:
            raise RuntimeError(f"the hardware of the winner is not what it should be: {built.broken}")
        if not interrupted and not (found and found.status == "timeout"):  # a longer limit may route it
            kept.mark("finished", "yes")


def executor_for(task: tasks.Task, settings: schema.Executor) -> executor.Local | cluster.Cluster:
    """Where the trainings of a run take place; ValueError, one line, if that place is not there."""
    where = (task, settings.workers, settings.device, settings.timeout_s)
    match settings.name:
        case "ray":
            return cluster.Cluster(*where, address=settings.address, cpus=settings.cpus, gpus=settings.gpus)
        case _:
            return executor.Local(*where)


def budget(settings: Config, epochs: int, samples: int | None = None) -> Budget:
    """What a training may spend under these settings."""
    train = settings.train
    return Budget(
        epochs=epochs,
        samples=samples,
        batch_size=train.batch_size,
        learning_rate=train.learning_rate,
        prune_by=train.prune_by,
        prune_per=train.prune_per,
        regrow=train.regrow,
        memory_gib=settings.executor.memory_gib,
    )


def retrain(
    front: Sequence[Evaluation],
    number: int,
    evaluator: Evaluator,
    trainer: Trainer,
    kept: Archive,
    settings: Config,
) -> list[Evaluation]:
    """Each member of the front trained with the full budget and several seeds, and kept in the archive
    under `number`, that of the generation the front is of.

    Of the seeds that keep the budgets the one with the best validation accuracy is kept, of equals
    the one with the lower loss; metrics gain accuracy_mean and accuracy_sd over the seeds. A member
    of which no seed succeeds stays as the search knew it.
    """
    seeds = [integer(settings.search.seed, "final", i, high=2**31) for i in range(settings.train.final_seeds)]
    full = budget(settings, settings.train.full_epochs)
    rows = [
        [evaluator.trained(trained) for trained in of_seed]
        for of_seed in trainer.train([member.architecture for member in front], full, seeds)
    ]
    each = [e for row in rows for e in row]
    kept.keep("final", number, each, [seed for seed in seeds for _ in front], full)
    members = []
    for member, tried in zip(front, zip(*rows, strict=True), strict=True):
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
    `rule.within` below the best, the smallest `rule.smallest`, routed where that is known; of equals the
    more accurate one."""
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
    designs, and the rule asked again. The designs are kept in `folder`. Raises ValueError if nothing fits.
    """
    front, rule = list(front), settings.search.winner
    if not settings.build.synthesize:
        return front, by_rule(front, rule)[0], None
    (folder / calibration.RUN_FILE).unlink(missing_ok=True)  # of this run, broken off: it comes again
    feedback = Feedback(folder, chip)
    routed: dict[Architecture, Synthesis] = {}
    while front:
        chosen = by_rule(front, rule)[0]
        if chosen.architecture in routed:
            return front, chosen, routed[chosen.architecture]
        told = describe(chosen.architecture)
        recorder.stage(f"placing and routing {told}")
        found = build.route(
            chosen.network, chosen.architecture.name, chip, settings.build, folder / "synthesis"
        )
        routed[chosen.architecture] = found
        real = dict(found.figures)
        if "latency_clocks" in chosen.metrics and "fmax_mhz" in real:
            clock = min(chip.clock_mhz, real["fmax_mhz"])
            real["routed_latency_us"] = chosen.metrics["latency_clocks"] / clock
            if clock < chip.clock_mhz:
                recorder.note(f"{told} routes at {clock:g} MHz, the target has {chip.clock_mhz:g} MHz")
        over = [
            f"{real[f'routed_{name}']:g} {name} of {limit:g}"
            for name, limit in budgets.items()
            if limit is not None and real.get(f"routed_{name}", 0) > limit
        ]
        if found.status in build.TOO_LARGE or over:
            why = f"exceeds its budgets routed ({', '.join(over)})" if over else "does not route"
            recorder.note(f"{told} {why}, the next by the rule is taken")
            front = [m for m in front if m.architecture != chosen.architecture]
        else:
            front = [_with(m, real if m.architecture == chosen.architecture else {}) for m in front]
        before = feedback.figures
        feedback.add(chosen.network, chosen.architecture, found)
        if feedback.figures != before:
            recorder.note(feedback.note)
            luts = [price.measure(m.network, chip, figures=feedback.figures).luts for m in front]
            front = [_repriced(m, n) for m, n in zip(front, luts, strict=True)]
            front = pareto_front(front, settings.search.objectives)
    raise Refused(f"none of the {len(routed)} members of the front can be routed on {chip.title} in budget")


def _repriced(member: Evaluation, luts: int) -> Evaluation:
    """`member` with LUTs of a refitted model, and those of the published one beside them."""
    published = member.metrics.get("published_luts", member.metrics["luts"])
    return _with(member, {"luts": luts, "published_luts": published})


def _with(member: Evaluation, metrics: dict[str, float]) -> Evaluation:
    return replace(member, metrics={**member.metrics, **metrics})


def _check_failures(generation: Generation, largest: float) -> None:
    tried = [e for e in generation.evaluated if e.trained or e.failed]
    failed = [e for e in tried if e.failed]
    if len(failed) > largest * len(tried):
        raise Refused(
            f"search.max_failed_share is {largest:g}, but {len(failed)} of {len(tried)} candidates of "
            f"generation {generation.number} failed; the first: {failed[0].failed}"
        )
