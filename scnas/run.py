"""The story of a run: search, retrain the front, choose, open the test data, build, check, record."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path

from scnas import benchmark, build, compare, realize, resume, tasks
from scnas.choose import best_of_seeds, by_rule, choose, network_of, with_metrics
from scnas.contract import Refused
from scnas.evaluation import Evaluation, Generation
from scnas.hardware import targets
from scnas.interrupts import Interruptible
from scnas.randomness import integer
from scnas.record.recorder import Recorder
from scnas.resume import Workshop
from scnas.search.evaluation import Evaluator, Reference, capacity, nothing_fits, pareto_front
from scnas.search.evolve import evolve, likely_to_fit
from scnas.search.steady import Feed, evolve_steady
from scnas.settings import saved, schema
from scnas.settings.schema import Config
from scnas.snn.budget import Budget
from scnas.space import SearchSpace, describe
from scnas.trials import executor, export, repair


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
                    lines = export.export(finished)
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
    Ctrl-C ends the stage it meets, and what there is then is recorded. Raises Refused, one line, where the
    data, the settings, the target or the archive leave nothing to find.
    """
    task = tasks.load(settings.task)
    space = settings.space.for_task(task)
    chip = _chip(settings.target)
    budgets = capacity(chip, **asdict(settings.search.budgets))
    reference = Reference(tuple(settings.search.objectives), task.n_classes, chip)
    with ExitStack() as stack:
        shop = stack.enter_context(resume.workshop(settings, folder, task))
        if shop is None:
            return
        recorder = stack.enter_context(Recorder(folder, settings, chip, reference))
        seed, brief = settings.search.seed, budget(settings, settings.train.epochs, settings.train.samples)
        evaluator = Evaluator(chip, budgets, train=lambda batch: shop.trainer.train(batch, brief, [seed])[0])
        stage = Interruptible()

        generation = None
        with stage:
            for generation in _generations(settings, space, evaluator, reference, shop, brief):
                shop.archive.generation(generation, seed, brief)
                recorder.generation(generation)
                _check_failures(generation, settings.search.max_failed_share)
                if generation.number + 1 >= settings.search.generations:
                    break
        if generation is None:
            raise KeyboardInterrupt  # nothing was evaluated, so there is nothing to keep
        if not generation.front:
            raise nothing_fits(generation.archive, budgets)

        members = generation.front
        if not stage.seen:
            tries = settings.train.final_seeds
            recorder.stage(f"training the {len(members)} of the front in full, {tries} seeds each")
            with stage:
                members = retrain(members, generation.number, evaluator, shop, settings)

        # Ranked again by what the full budget made of them; the test data decide nothing after this.
        front = pareto_front(members, settings.search.objectives)
        chosen, routed = by_rule(front, settings.search.winner)[0], None
        with stage:
            front, chosen, routed = choose(front, chip, budgets, settings, folder, recorder)

        test = task.open_test()
        front = [with_metrics(m, {"test_accuracy": build.accuracy(network_of(m), test)}) for m in front]
        recorder.stage(f"building {describe(chosen.architecture)}")
        won, built = chosen.architecture, None
        design = (network_of(chosen), won.name, test, chip)
        if not stage.seen:
            with stage:
                built = build.build(*design, settings.build, folder, routed)
        if built is None:
            built = build.build(*design, replace(settings.build, **build.NOTHING), folder)

        front = [with_metrics(m, built.figures) if m.architecture == won else m for m in front]
        chosen = next(m for m in front if m.architecture == won)
        recorder.finish(generation, front, chosen, stage.seen, built)
        if built.broken is not None:
            raise RuntimeError(f"the hardware of the winner is not what it should be: {built.broken}")
        if not stage.seen and not (routed and routed.status == "timeout"):  # a longer limit may route it
            shop.archive.mark("finished", "yes")


def _chip(settings: schema.Target) -> targets.Target:
    """The target at the clock that was asked for."""
    chip = targets.target(settings.name)
    return chip if settings.clock_mhz is None else replace(chip, clock_mhz=settings.clock_mhz)


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


def _generations(
    settings: Config,
    space: SearchSpace,
    evaluator: Evaluator,
    reference: Reference,
    shop: Workshop,
    brief: Budget,
) -> Iterator[Generation]:
    """The generations of the search that was asked for, for ever where it is generational."""
    size, seed = settings.search.population_size, settings.search.seed
    first = likely_to_fit(space, size, evaluator.target, evaluator.budgets, seed)
    if settings.search.mode != "steady":
        return evolve(space, evaluator, reference, size, seed, first)
    shop.archive.agree(
        {"slots": str(shop.trainer.executor.slots)}
    )  # children depend on how many are under way
    feed = Feed(evaluator, shop.trainer, brief, seed)
    before = [e.architecture for e in shop.archive.evaluations()]
    total = size * settings.search.generations
    return evolve_steady(space, feed, reference, size, seed, total, first, before)


def retrain(
    front: Sequence[Evaluation], number: int, evaluator: Evaluator, shop: Workshop, settings: Config
) -> list[Evaluation]:
    """Each member of the front trained with the full budget and several seeds, as the best of them.

    number: of the generation the front is of; under it the archive keeps what each seed gave.
    """
    seeds = [integer(settings.search.seed, "final", i, high=2**31) for i in range(settings.train.final_seeds)]
    full = budget(settings, settings.train.full_epochs)
    trained = shop.trainer.train([member.architecture for member in front], full, seeds)
    by_seed = [[evaluator.trained(t) for t in of_seed] for of_seed in trained]
    each = [e for row in by_seed for e in row]
    shop.archive.keep("final", number, each, [seed for seed in seeds for _ in front], full)
    return best_of_seeds(front, by_seed)


def _check_failures(generation: Generation, largest: float) -> None:
    tried = [e for e in generation.evaluated if e.trained or e.failed]
    failed = [e for e in tried if e.failed]
    if len(failed) > largest * len(tried):
        raise Refused(
            f"search.max_failed_share is {largest:g}, but {len(failed)} of {len(tried)} candidates of "
            f"generation {generation.number} failed; the first: {failed[0].failed}"
        )
