"""Random integer networks for the tests: every model, generator, delay, length; saturating or not."""

from dataclasses import replace

import numpy as np

from scnas.contract import GENERATORS, NEURONS
from scnas.snn import derive
from scnas.snn.models import CONSTANTS, model_of
from scnas.snn.network import Layer, Network
from scnas.snn.streams import max_weight


def random_layer(
    rng, n_in, n_out, *, word=16, fraction=8, timesteps=8, neuron=None, generator=None, length=None,
    max_delay=3, density=0.7, mapping="parallel", lanes=None, powers_of_two=False, refractory=None,
) -> Layer:  # fmt: skip
    """A layer with random weights, thresholds and constants, of the given kind or any."""
    neuron = neuron or str(rng.choice(NEURONS))
    generator = generator or str(rng.choice(GENERATORS))
    length = length or 2 ** int(rng.integers(0, fraction + 1))
    top = max_weight(generator, length)
    weights = rng.integers(-top, top + 1, (n_in, n_out)) * (rng.random((n_in, n_out)) < density)
    delays = rng.integers(0, max_delay + 1, (n_in, n_out))
    half, one = 2 ** (word - 1), 2**fraction
    small = min(half - 1, 2 * one)

    def k(low, high):
        if powers_of_two:
            return int(min(2 ** rng.integers(0, fraction + 1), 2 ** (word - 2)))
        return int(rng.integers(max(low, -half), min(high, half - 1) + 1))

    drawn = {
        "leak_k": k(0, one),
        "gain_k": k(1, 2 * one),
        "noise_k": k(0, 2 * one),
        "decay_k": k(0, one),
        "bump_k": k(0, one),
        "a_k": k(0, max(1, one // 8)),
        "b_k": k(0, one // 2),
        "d_k": k(0, max(1, one // 4)),
        "v_rest": int(rng.integers(-small // 4, small // 4 + 1)),
        "v_reset": int(rng.integers(-small // 2, small // 4 + 1)),
        "refractory": int(rng.integers(0, 4)) if refractory is None else refractory,
    }
    used = derive.used_constants(model_of(neuron))
    constants = {key: drawn[key] if key in used else 0 for key in CONSTANTS}
    folded = mapping == "folded"
    return Layer(
        neuron=neuron,
        generator=generator,
        length=length,
        seed=int(rng.integers(1, 2**16)),
        noise_seed=int(rng.integers(1, 2**16)),
        mapping=mapping,
        lanes=(lanes or int(rng.integers(1, 9))) if folded else 0,
        weights=weights,
        delays=delays,
        threshold=rng.integers(-small // 8, small, n_out),
        constants=constants,
    )


def random_network(
    rng, widths=(6, 7, 5), *, word=16, fraction=8, timesteps=8, encoder=None, readout=None,
    mapping="parallel", **layer,
) -> Network:  # fmt: skip
    """A network of the given widths (inputs first); what is not given is drawn. mapping: or `any`."""
    layers = tuple(
        random_layer(
            rng, a, b, word=word, fraction=fraction, timesteps=timesteps,
            mapping=str(rng.choice(("parallel", "folded"))) if mapping == "any" else mapping, **layer,
        )
        for a, b in zip(widths[:-1], widths[1:], strict=True)
    )  # fmt: skip
    return Network(
        n_inputs=widths[0],
        timesteps=timesteps,
        encoder=encoder or str(rng.choice(("rate", "events"))),
        fraction=fraction,
        word=word,
        readout=readout or str(rng.choice(("membrane", "spikes"))),
        layers=layers,
    )


def shared_out(rng, network: Network, lanes: tuple[int, ...] = (3, 8, 70, 100)) -> Network:
    """The same network, its folded layers with lanes out of `lanes`, and units where there can be any."""
    layers = []
    for i, layer in enumerate(network.layers):
        if layer.mapping == "folded":
            n, last = layer.n_out, i == len(network.layers) - 1
            able = [1] if last else [units for units in range(1, n // 2 + 1) if n % units == 0]
            units = int(rng.choice(able or [1]))
            layer = replace(layer, lanes=int(rng.choice(lanes)), units=units)
        layers.append(layer)
    return replace(network, layers=tuple(layers))


def random_input(rng, network: Network, samples: int) -> np.ndarray:
    """Samples that fit the encoder of `network`."""
    if network.encoder == "rate":
        return rng.random((samples, network.n_inputs)).astype(np.float32)
    return (rng.random((samples, network.timesteps, network.n_inputs)) < 0.4).astype(np.uint8)
