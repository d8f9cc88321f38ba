"""The folder of the winner and its page."""

from collections.abc import Mapping
from pathlib import Path

from scnas.evaluation import Evaluation
from scnas.files import write_whole
from scnas.hardware.cost.derived import unsure
from scnas.hardware.cost.price import fmax_label
from scnas.hardware.targets import Target
from scnas.metrics import METRICS
from scnas.settings import schema


def energy_line(metrics: Mapping[str, float], label: str) -> list[str]:
    """The energy of one inference from counted toggles beside the modelled one, a line; none uncounted."""
    if "simulated_energy_nj" not in metrics:
        return []
    names = ("simulated_energy_nj", "energy_nj", "simulated_energy_low_nj", "simulated_energy_high_nj")
    counted, modelled, low, high = (METRICS["energy_nj"].form(metrics[name]) for name in names)
    return [
        f"energy: {counted} nJ an inference from {metrics['toggles']:,.0f} counted toggles "
        f"(modelled {modelled} nJ; {label}, {low} to {high} nJ)"
    ]


def write_winner(
    folder: Path, winner: Evaluation, rule: schema.Winner, title: str, target: Target, hardware: str = ""
) -> None:
    """winner/network.json and winner/README.md, which ends with the page on the hardware."""
    place = folder / "winner"
    place.mkdir(exist_ok=True)
    assert winner.network is not None  # a winner is trained
    winner.network.save(place / "network.json")
    said = unsure([winner.architecture])
    doubt = f"\n{said}.\n" if said else ""
    write_whole(place / "README.md", _winner_page(winner, rule, title, target) + doubt + hardware)


def _winner_page(winner: Evaluation, rule: schema.Winner, title: str, target: Target) -> str:
    fitted = not unsure([winner.architecture])
    a, network, found = winner.architecture, winner.network, winner.metrics
    assert network is not None  # a winner is trained
    clock = found.get("clock_mhz", target.clock_mhz)
    routed = "placed and routed" if "fmax_mhz" in found else "packed"
    words = {
        "unit": target.lut_unit,
        "clock": clock,
        "clock_from": "the target's clock" if clock >= target.clock_mhz else "its modelled highest clock",
        "target_clock": target.clock_mhz,
        "label": target.energy_label if fitted else "uncalibrated",
        "fmax_label": fmax_label(target) if fitted else "uncalibrated",
        "refitted": ", refitted to what this run routed" if "published_luts" in found else "",
        "did": routed if target.routed else "synthesised only",
    }
    metrics = [
        f"| {row.line.format(**words)} | {row.form(found[row.name])} | {row.source.format(**words)} |"
        for row in METRICS.values()
        if row.source and row.name in found
    ]
    layers = []
    for i, (layer, (n_in, n_out)) in enumerate(zip(network.layers, a.layer_sizes, strict=True)):
        neuron = layer.neuron if network.fires(i) else "sums only"
        mapping = f"folded, {layer.lanes} lanes" if layer.lanes else layer.mapping
        mapping += f" x {layer.units} units" if layer.units > 1 else ""
        cells = (i, n_in, n_out, neuron, layer.generator, layer.length, a.delay_ranges[i], layer.n_synapses)
        layers.append(f"| {' | '.join(map(str, (*cells, mapping)))} |")
    if network.encoder == "rate":
        x = f"float32 [B, {network.n_inputs}] in 0..1"
        time = f"T = {network.timesteps} steps, values coded as spike rates"
    else:
        x = f"uint8 [B, {network.timesteps}, {network.n_inputs}] of 0 and 1"
        time = f"T = {network.timesteps} steps, spikes as they come"
    newline = "\n"
    return f"""\
# Winner: {title} on {target.title}

A spiking network of stochastic numbers: {network.n_inputs} inputs, {network.n_classes} classes, {time},
{network.word} bits of membrane, readout `{network.readout}`. Picked from the front by a rule fixed before
the search: the smallest `{rule.smallest}` at most {100 * rule.within:g} percentage points below the best
validation accuracy.
`network.json` holds all of it; every spike can be recomputed from that file alone.

| figure | value | where it comes from |
|---|---:|---|
{newline.join(metrics)}

| layer | inputs | outputs | neuron | generator | L | D | synapses | mapping |
|---:|---:|---:|---|---|---:|---:|---:|---|
{newline.join(layers)}

L: clocks of a stochastic number. D: largest delay, steps. Synapses: non-zero weights.

## Load it

```python
import scnas
network = scnas.load_network("network.json")  # a torch.nn.Module that computes in integers
scores = network(x)                           # x: {x}
classes = scores.argmax(1)                    # of equal scores the lowest class
spikes = network.spikes(x)                    # per layer [B, T, n]
```

## Recompute its accuracy

From the folder of the run, where `settings.yaml` fixes the data and their splits:

```python
import torch, scnas
from scnas import tasks
from scnas.settings import saved
task = tasks.load(saved.read("settings.yaml").task)
network = scnas.load_network("winner/network.json")
for name, (x, y) in (("validation", task.validation), ("test", task.open_test())):
    print(name, (network(torch.from_numpy(x)).argmax(1).numpy() == y).mean())
```
"""
