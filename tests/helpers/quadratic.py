"""A neuron from outside the package: the quadratic integrate-and-fire neuron. Importing it registers it.

    p = sat(v + mul(mul(v - v_rest, v - critical_k), leak_k) + mul(I, gain_k))

Between v_rest and critical_k it leaks, above critical_k it runs away by itself.
"""

from pathlib import Path

from scnas.snn.models import Format, Model, Start, clipped_slope, mul, name, register

v, rest, critical = name("v"), name("v_rest"), name("critical_k")


def start(q: Format) -> Start:
    """Around a threshold of one, or as much of it as the word holds."""
    one = min(q.one, q.half // 4)
    return Start(threshold=one, scale=one, target=one, constants={"critical_k": one // 2})


QUADRATIC = register(
    Model(
        "quadratic_if",
        charge=v
        + clipped_slope(mul(mul(v - rest, v - critical), name("leak_k")), v)
        + mul(name("I"), name("gain_k")),
        start=start,
        constants=("critical_k",),
        reference=Path(__file__).with_name("quadratic_reference.v"),
    )
)
