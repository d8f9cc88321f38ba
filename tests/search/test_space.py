"""scnas.space: an architecture is a value that cannot be wrong, and a space returns only its own."""

import time
from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from scnas.contract import NEURONS
from scnas.space import Architecture, SearchSpace

GENES = dict(
    n_inputs=6,
    layer_widths=(7, 5, 3),
    neuron_types=("izhikevich", "if", "lif"),
    bitstream_lengths=(4, 16, 256),
    delay_ranges=(0, 2, 7),
    densities=(0.5, 1.0, 0.25),
    generators=("lfsr", "sobol", "lfsr"),
    mappings=("folded", "parallel", "folded"),
    lanes=(4, 0, 8),
    timesteps=8,
    word=12,
    fraction=8,
    readout="membrane",
)


def made(**changes) -> Architecture:
    return Architecture(**GENES | changes)


def small(**genes) -> Architecture:
    """One hidden layer, whatever else is given."""
    base = dict(
        n_inputs=3, layer_widths=(4, 2), neuron_types=("if", "if"), bitstream_lengths=(4, 4),
        delay_ranges=(0, 0),
    )  # fmt: skip
    return Architecture(**base | genes)


# --- the value ------------------------------------------------------------------------------------


def test_genes_are_kept():
    a = made()
    for gene, value in GENES.items():
        assert getattr(a, gene) == value, gene


def test_defaults_worked_by_hand():
    a = Architecture(64, [32, 10], ["lif", "if"], [16, 8], [0, 4])
    assert (a.densities, a.generators, a.mappings, a.lanes) == (
        (1.0, 1.0), ("sobol", "sobol"), ("parallel", "parallel"), (0, 0),
    )  # fmt: skip
    assert (a.timesteps, a.word, a.fraction, a.readout) == (8, 16, 8, "membrane")
    assert (a.fitness_accuracy, a.fitness_luts, a.fitness_energy_nj) == (None, None, None)
    assert Architecture(64, [10], ["lif"], [16], [0], mappings=["folded"]).lanes == (8,)


def test_sizes_worked_by_hand():
    a = made()
    assert (a.n_layers, a.n_outputs) == (3, 3)
    assert a.layer_sizes == [(6, 7), (7, 5), (5, 3)]
    assert a.total_params == 6 * 7 + 7 * 5 + 5 * 3
    assert a.kept_synapses == (21, 35, 4)  # 15 / 4 = 3.75
    assert a.taps == (6, 7 * 3, 5 * 8)
    assert small(densities=(0.01, 1)).kept_synapses == (1, 8)  # never none


def test_only_the_last_layer_of_a_membrane_readout_does_not_fire():
    assert [made().fires(i) for i in range(3)] == [True, True, False]
    assert [made(readout="spikes").fires(i) for i in range(3)] == [True, True, True]


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_lists_tuples_and_numpy_numbers_are_one_architecture(kind):
    a = made(
        n_inputs=np.int64(6),
        layer_widths=kind([7, 5, 3]),
        neuron_types=kind(["izhikevich", "if", "lif"]),
        bitstream_lengths=kind([4, 16, 256]),
        delay_ranges=kind([0, 2, 7]),
        densities=kind([0.5, 1, 0.25]),
        generators=kind(["lfsr", "sobol", "lfsr"]),
        mappings=kind(["folded", "parallel", "folded"]),
        lanes=kind([4, 0, 8]),
        timesteps=np.uint8(8),
        word=np.int32(12),
    )
    assert a == made() and hash(a) == hash(made()) and a.name == made().name
    assert repr(a) == repr(made())  # plain ints, floats and strings all the way down
    assert all(type(width) is int for width in a.layer_widths)
    assert all(type(neuron) is str for neuron in a.neuron_types)


def test_a_value_cannot_be_changed():
    with pytest.raises(AttributeError):
        made().word = 16


def test_measurements_are_carried_and_take_no_part_in_equality():
    plain = made()
    scored = replace(plain, fitness_accuracy=0.9, fitness_luts=100, fitness_energy_nj=2.5)
    assert (scored.fitness_accuracy, scored.fitness_luts, scored.fitness_energy_nj) == (0.9, 100, 2.5)
    assert scored == plain and hash(scored) == hash(plain) and scored.name == plain.name
    assert scored in {plain} and len({scored, plain}) == 1
    assert scored.training_key.fitness_accuracy is None


def test_a_gene_takes_part_in_equality_and_in_the_name():
    other = dict(
        n_inputs=5, layer_widths=(7, 6, 3), neuron_types=("izhikevich", "lif", "lif"),
        bitstream_lengths=(4, 16, 128), delay_ranges=(0, 2, 6), densities=(0.5, 0.75, 0.25),
        generators=("lfsr", "sobol", "sobol"), mappings=("folded", "folded", "folded"), lanes=(5, 0, 8),
        timesteps=16, word=13, fraction=9, readout="spikes",
    )  # fmt: skip
    assert other.keys() == GENES.keys()
    for gene, value in other.items():
        changed = made(**{"lanes": (4, 7, 8)} if gene == "mappings" else {}, **{gene: value})
        assert changed != made(), gene
        assert changed.name != made().name, gene
        assert (changed.training_key == made().training_key) == (gene in ("mappings", "lanes")), gene


# --- canonical genes: equal networks are equal architectures --------------------------------------


@pytest.mark.parametrize(
    "one, other",
    [
        (dict(lanes=(4, 0, 8)), dict(lanes=(4, 99, 8))),  # layer 1 is parallel
        (dict(lanes=(6, 0, 8)), dict(lanes=(60, 0, 8))),  # layer 0 has 6 taps
        (dict(lanes=(4, 0, 40)), dict(lanes=(4, 0, 41))),  # layer 2 has 5 inputs times 8 delays
        (dict(neuron_types=("izhikevich", "if", "lif")), dict(neuron_types=("izhikevich", "if", "if"))),
        (dict(delay_ranges=(0, 2, 7)), dict(delay_ranges=(0, 2, 4096))),  # T = 8
    ],
)
def test_a_gene_without_effect_makes_no_difference(one, other):
    assert made(**one) == made(**other)
    assert made(**one).name == made(**other).name


@pytest.mark.parametrize(
    "one, other",
    [
        (dict(lanes=(5, 0, 8)), dict(lanes=(6, 0, 8))),
        (dict(lanes=(4, 0, 39)), dict(lanes=(4, 0, 40))),
        (
            dict(readout="spikes", neuron_types=("if", "if", "lif")),
            dict(readout="spikes", neuron_types=("if", "if", "if")),
        ),
        (dict(delay_ranges=(0, 2, 6)), dict(delay_ranges=(0, 2, 7))),
        (dict(timesteps=16, delay_ranges=(0, 2, 7)), dict(timesteps=16, delay_ranges=(0, 2, 8))),
    ],
)
def test_a_gene_with_effect_does(one, other):
    assert made(**one) != made(**other)


def test_canonical_values_worked_by_hand():
    a = small(
        delay_ranges=(9, 1), timesteps=2, mappings=("folded", "parallel"), lanes=(64, 64),
        neuron_types=("izhikevich", "izhikevich"),
    )  # fmt: skip
    assert a.delay_ranges == (1, 1)  # T - 1
    assert a.lanes == (6, 0)  # 3 inputs times the two delays that T leaves
    assert a.neuron_types == ("izhikevich", "lif")
    assert small(timesteps=1, delay_ranges=(5, 5)).delay_ranges == (0, 0)


def test_units_worked_by_hand():
    def units(width, value, mapping="folded"):
        a = Architecture(
            9, (width, 4), ("if",) * 2, (4,) * 2, (0,) * 2, mappings=(mapping,) * 2, units=(value,) * 2
        )
        assert a.units[1] == 1  # the scores of the last layer come one by one
        return a.units[0]

    assert [units(12, n) for n in (1, 2, 3, 4, 5, 6, 7, 12, 99)] == [1, 2, 3, 4, 4, 6, 6, 6, 6]
    assert units(7, 7) == units(7, 3) == units(1, 5) == units(2, 2) == 1
    assert units(12, 4, "parallel") == 1
    a = made(layer_widths=(6, 5, 4), units=(2, 3, 1))
    assert a.units == (2, 1, 1)  # layer 1 is parallel
    assert a != replace(a, units=None) and a.name != replace(a, units=None).name
    assert a.training_key == replace(a, units=None).training_key
    assert Architecture(**a.to_dict()) == a
    old = {gene: value for gene, value in made().to_dict().items() if gene != "units"}
    assert Architecture(**old) == made()  # what was stored before there were units
    with pytest.raises(ValueError, match=r"units\[0\] must be a whole number from 1 to 256, got 0"):
        made(units=(0, 1, 1))


def test_the_training_key_forgets_the_mapping_alone():
    key = made().training_key
    assert key.mappings == ("parallel",) * 3 and key.lanes == (0, 0, 0)
    assert key.training_key == key
    for gene in set(GENES) - {"mappings", "lanes"}:
        assert getattr(key, gene) == getattr(made(), gene)


architectures = st.builds(
    lambda n, layers, T, word, readout: Architecture(
        n_inputs=n,
        **{gene: [layer[gene] for layer in layers] for gene in layers[0]},
        timesteps=T, word=word, readout=readout,
    ),
    st.integers(1, 30),
    st.lists(
        st.fixed_dictionaries(
            dict(
                layer_widths=st.integers(1, 30),
                neuron_types=st.sampled_from(NEURONS),
                bitstream_lengths=st.sampled_from([2**k for k in range(9)]),
                delay_ranges=st.integers(0, 20),
                densities=st.one_of(
                    st.sampled_from([0.1, 0.25, 1 / 3, 1.0]), st.floats(0, 1, exclude_min=True)
                ),
                generators=st.sampled_from(("sobol", "lfsr")),
                mappings=st.sampled_from(("parallel", "folded")),
                lanes=st.integers(1, 99),
            )
        ),
        min_size=1,
        max_size=4,
    ),
    st.integers(1, 32),
    st.integers(4, 24),
    st.sampled_from(("membrane", "spikes")),
)  # fmt: skip


@given(architectures)
def test_the_dictionary_gives_the_architecture_back(a):
    assert Architecture(**a.to_dict()) == a
    assert not any(isinstance(value, tuple) for value in a.to_dict().values())  # plain JSON


@given(architectures)
def test_making_it_again_changes_nothing(a):
    again = replace(a)
    assert again == a and repr(again) == repr(a)


@given(architectures, architectures)
def test_one_name_one_architecture(a, b):
    assert (a.name == b.name) == (a == b)


def test_names_are_injective_over_a_whole_space():
    everything = set.union(*map(every, TINY.values()))
    assert len({a.name for a in everything}) == len(everything) > 1500


# --- wrong genes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(n_inputs=0), "n_inputs must be a whole number from 1 to 65536, got 0"),
        (dict(n_inputs=2**16 + 1), "n_inputs must be a whole number from 1 to 65536, got 65537"),
        (dict(n_inputs=6.0), "n_inputs must be a whole number from 1 to 65536, got 6.0"),
        (dict(n_inputs=True), "n_inputs must be a whole number from 1 to 65536, got True"),
        (dict(n_inputs="6"), "n_inputs must be a whole number from 1 to 65536, got '6'"),
        (dict(n_inputs=None), "n_inputs must be a whole number from 1 to 65536, got None"),
        (dict(layer_widths=()), "layer_widths must hold 1 to 64 layers, got 0"),
        (dict(layer_widths=(1,) * 65), "layer_widths must hold 1 to 64 layers, got 65"),
        (dict(layer_widths=7), "layer_widths must be a list with one entry per layer, got 7"),
        (dict(layer_widths="753"), "layer_widths must be a list with one entry per layer, got '753'"),
        (dict(layer_widths=np.array(7)), "layer_widths must be a list with one entry per layer, got"),
        (dict(layer_widths=(7, 0, 3)), "layer_widths[1] must be a whole number from 1 to 65536, got 0"),
        (dict(layer_widths=(7, 5, -3)), "layer_widths[2] must be a whole number from 1 to 65536, got -3"),
        (
            dict(layer_widths=(2**13, 2**12, 3)),
            "layer_widths[1] makes a layer of 8192 x 4096 synapses, at most 16777216",
        ),
        (dict(neuron_types=("lif", "lif")), "neuron_types must have one entry per layer (3), got 2"),
        (
            dict(neuron_types=("lif", "LIF", "lif")),
            "neuron_types[1] must be one of if, lif, stochastic_lif, homeostatic_lif, izhikevich, got 'LIF'",
        ),
        (dict(neuron_types=("lif", None, "lif")), "neuron_types[1] must be one of if, lif"),
        (dict(neuron_types="lif"), "neuron_types must be a list with one entry per layer, got 'lif'"),
        (dict(bitstream_lengths=(4, 16)), "bitstream_lengths must have one entry per layer (3), got 2"),
        (
            dict(bitstream_lengths=(4, 48, 4)),
            "bitstream_lengths[1] must be a power of two that divides 2^fraction = 256, got 48",
        ),
        (dict(bitstream_lengths=(4, 512, 4)), "bitstream_lengths[1] must be a power of two that divides"),
        (dict(bitstream_lengths=(4, 0, 4)), "bitstream_lengths[1] must be a power of two that divides"),
        (dict(bitstream_lengths=(4, -4, 4)), "bitstream_lengths[1] must be a power of two that divides"),
        (dict(bitstream_lengths=(4, 4.0, 4)), "bitstream_lengths[1] must be a whole number, got 4.0"),
        (
            dict(bitstream_lengths=(4, 4, 16), fraction=3),
            "bitstream_lengths[2] must be a power of two that divides 2^fraction = 8, got 16",
        ),
        (dict(delay_ranges=(0, -1, 0)), "delay_ranges[1] must be a whole number from 0 to 4096, got -1"),
        (dict(delay_ranges=(0, 1.5, 0)), "delay_ranges[1] must be a whole number from 0 to 4096, got 1.5"),
        (dict(densities=(1, 0, 1)), "densities[1] must be a share above 0 and at most 1, got 0"),
        (dict(densities=(1, 1.01, 1)), "densities[1] must be a share above 0 and at most 1, got 1.01"),
        (dict(densities=(1, float("nan"), 1)), "densities[1] must be a share above 0 and at most 1, got nan"),
        (dict(densities=(1, "1", 1)), "densities[1] must be a share above 0 and at most 1, got '1'"),
        (dict(densities=(1, 1j, 1)), "densities[1] must be a share above 0 and at most 1, got 1j"),
        (dict(densities=(1, np.complex64(1), 1)), "densities[1] must be a share above 0 and at most 1, got"),
        (dict(densities=(True, 1, 1)), "densities[0] must be a share above 0 and at most 1, got True"),
        (dict(densities=0.5), "densities must be a list with one entry per layer, got 0.5"),
        (
            dict(generators=("sobol", "halton", "lfsr")),
            "generators[1] must be one of sobol, lfsr, got 'halton'",
        ),
        (
            dict(mappings=("folded", "serial", "folded")),
            "mappings[1] must be one of parallel, folded, got 'ser",
        ),
        (dict(lanes=(0, 0, 8)), "lanes[0] must be a whole number from 1 to 65536, got 0"),
        (dict(lanes=(4, -1, 8)), "lanes[1] must be a whole number from 0 to 65536, got -1"),
        (dict(lanes=(4, 0)), "lanes must have one entry per layer (3), got 2"),
        (dict(timesteps=0), "timesteps must be a whole number from 1 to 4096, got 0"),
        (dict(timesteps=4097), "timesteps must be a whole number from 1 to 4096, got 4097"),
        (dict(word=3), "word must be a whole number from 4 to 24, got 3"),
        (dict(word=25), "word must be a whole number from 4 to 24, got 25"),
        (dict(fraction=-1), "fraction must be a whole number from 0 to 12, got -1"),
        (dict(fraction=13), "fraction must be a whole number from 0 to 12, got 13"),
        (dict(readout="votes"), "readout must be one of membrane, spikes, got 'votes'"),
        (dict(n_inputs=10**100), "n_inputs must be a whole number from 1 to 65536, got 1000"),
    ],
)
def test_a_wrong_gene_says_which_and_what_is_allowed(change, message):
    with pytest.raises(ValueError) as refusal:
        made(**change)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 250


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(min_layers=3, max_layers=2), "min_layers must be at most max_layers = 2, got 3"),
        (dict(min_layers=0), "min_layers must be a whole number from 1 to 64, got 0"),
        (dict(max_layers=65), "max_layers must be a whole number from 1 to 64, got 65"),
        (dict(n_inputs=0), "n_inputs must be a whole number from 1 to 65536, got 0"),
        (dict(n_outputs=0), "n_outputs must be a whole number from 1 to 65536, got 0"),
        (dict(fraction=13), "fraction must be a whole number from 0 to 12, got 13"),
        (dict(readout="last"), "readout must be one of membrane, spikes, got 'last'"),
        (dict(width_choices=()), "width_choices must hold at least one choice, got none"),
        (dict(neuron_choices=[]), "neuron_choices must hold at least one choice, got none"),
        (dict(L_choices=[]), "L_choices must hold at least one choice, got none"),
        (dict(delay_choices=[]), "delay_choices must hold at least one choice, got none"),
        (dict(density_choices=[]), "density_choices must hold at least one choice, got none"),
        (dict(generator_choices=[]), "generator_choices must hold at least one choice, got none"),
        (dict(mapping_choices=[]), "mapping_choices must hold at least one choice, got none"),
        (dict(lanes_choices=[]), "lanes_choices must hold at least one choice, got none"),
        (dict(timesteps_choices=[]), "timesteps_choices must hold at least one choice, got none"),
        (dict(word_choices=[]), "word_choices must hold at least one choice, got none"),
        (dict(width_choices=8), "width_choices must be a list of choices, got 8"),
        (dict(neuron_choices="lif"), "neuron_choices must be a list of choices, got 'lif'"),
        (dict(width_choices=[8, 0]), "width_choices must be a whole number from 1 to 65536, got 0"),
        (dict(neuron_choices=["lif", "adex"]), "neuron_choices must be one of if, lif, "),
        (dict(L_choices=[4, 12]), "L_choices must be a power of two that divides 2^fraction = 256, got 12"),
        (dict(L_choices=[512]), "L_choices must be a power of two that divides 2^fraction = 256, got 512"),
        (dict(density_choices=[0.0]), "density_choices must be a share above 0 and at most 1, got 0.0"),
        (dict(lanes_choices=[0]), "lanes_choices must be a whole number from 1 to 65536, got 0"),
        (
            dict(width_choices=[2**13]),
            "width_choices allow a layer of 8192 x 8192 synapses, at most 16777216",
        ),
    ],
)
def test_a_wrong_setting_of_the_space_says_which_and_what_is_allowed(change, message):
    with pytest.raises(ValueError) as refusal:
        SearchSpace(**dict(n_inputs=4, n_outputs=2) | change)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


# --- the space, by enumeration --------------------------------------------------------------------

TINY = {
    "one architecture": SearchSpace(
        3, 2, 1, 1, [4], ["lif"], [4], [0], [1.0], ["sobol"], ["parallel"], [4], [8], [16]
    ),
    "twins": SearchSpace(  # choices that all mean the same
        3, 2, 1, 1, [4, 8], ["lif", "if"], [4, 4], [0, 9], [1.0, 1], ["sobol"], ["folded"], [8, 16], [1], [16]
    ),
    "membrane": SearchSpace(
        3, 2, 1, 2, [2, 4], ["lif", "if"], [1, 2], [0, 1], [0.5, 1], ["sobol"], ["parallel"], [4], [8],
        [12, 16],
    ),
    "spikes": SearchSpace(
        3, 2, 1, 2, [2, 4], ["lif", "if"], [1, 2], [0, 1], [1], ["lfsr"], ["parallel"], [4], [8], [16],
        readout="spikes",
    ),
    "lanes beyond taps": SearchSpace(
        3, 2, 1, 2, [1, 4], ["lif", "if"], [4], [0, 1], [1.0], ["sobol"], ["parallel", "folded"],
        [2, 4, 8, 9], [8], [16],
    ),
    "folded only": SearchSpace(
        2, 3, 2, 2, [1, 16], ["lif"], [4, 8], [0, 1, 2], [1.0], ["sobol"], ["folded"], [1, 3, 5], [4], [12],
        readout="spikes",
    ),
    "delays beyond T": SearchSpace(
        3, 2, 1, 2, [4], ["lif"], [4], [0, 1, 4, 8], [1.0], ["sobol"], ["folded"], [4, 16], [1, 2, 16], [16]
    ),
    "three deep": SearchSpace(
        2, 2, 1, 3, [1, 2], ["if", "izhikevich"], [2], [0], [1.0], ["sobol", "lfsr"], ["parallel"], [4],
        [8], [16],
    ),
    "units": SearchSpace(
        3, 6, 1, 3, [1, 4, 6], ["if"], [4], [0], [1.0], ["sobol"], ["parallel", "folded"], [2, 9], [8], [16],
        units_choices=[1, 2, 3, 8],
    ),
    "units only": SearchSpace(
        3, 2, 2, 2, [5, 12], ["if"], [4], [0], [1.0], ["sobol"], ["folded"], [2], [8], [16],
        units_choices=[4, 8],
    ),
    "deep only": SearchSpace(
        2, 2, 3, 3, [1, 2], ["if", "lif"], [2], [0], [1.0], ["sobol"], ["folded"], [2], [8], [16, 12]
    ),
}  # fmt: skip


def every(space: SearchSpace) -> set[Architecture]:
    """All architectures of a space, by trying every choice of every gene."""
    layer = list(
        product(
            space.neuron_choices, space.L_choices, space.delay_choices, space.density_choices,
            space.generator_choices, space.mapping_choices, space.lanes_choices, space.units_choices,
        )
    )  # fmt: skip
    found = set()
    for depth in range(space.min_layers, space.max_layers + 1):
        for widths, layers, T, word in product(
            product(space.width_choices, repeat=depth - 1),
            product(layer, repeat=depth),
            space.timesteps_choices,
            space.word_choices,
        ):
            neurons, lengths, delays, densities, generators, mappings, *most = zip(*layers, strict=True)
            lanes, units = most
            found.add(
                Architecture(
                    space.n_inputs, (*widths, space.n_outputs), neurons, lengths, delays, densities,
                    generators, mappings, lanes, T, word, space.fraction, space.readout, units=units,
                )
            )  # fmt: skip
    return found


@pytest.mark.parametrize("name", TINY)
def test_the_size_is_what_enumeration_counts(name):
    assert TINY[name].space_size == len(every(TINY[name]))


@pytest.mark.parametrize("name", TINY)
def test_everything_enumerated_lies_in_the_space(name):
    assert all(a in TINY[name] for a in every(TINY[name]))


def test_the_size_of_a_large_space_worked_by_hand():
    space = SearchSpace(
        64, 10, 1, 3, [8, 16], ["lif", "if"], [4, 8, 16], [0], [1], ["sobol"], ["parallel"], [8], [4, 8], [16]
    )
    hidden, last = 2 * 2 * 3, 3  # width x neuron x L; L alone in the last
    assert space.space_size == 2 * (last + hidden * last + hidden**2 * last)


def test_the_default_space_is_large_and_counted_at_once():
    assert SearchSpace(64, 10).space_size > 10**12
    assert isinstance(SearchSpace(64, 10, max_layers=64).space_size, int)


def test_what_differs_in_one_point_is_not_in_the_space():
    space = SearchSpace(
        6, 3, 2, 3, [7, 5], NEURONS[:2], [4, 16], [0, 2, 8], [0.5, 1], ["sobol"], ["folded", "parallel"],
        [4, 16], [8], [12],
    )  # fmt: skip
    inside = Architecture(
        6,
        (7, 3),
        ("lif", "izhikevich"),
        (4, 16),
        (2, 8),
        (0.5, 1),
        None,
        ("folded", "parallel"),
        (4, 99),
        8,
        12,
    )  # the last neuron does not fire, lanes of the last layer do not count, D = 8 is T - 1 = 7
    assert inside in space
    outside = dict(
        n_inputs=5, layer_widths=(8, 3), neuron_types=("izhikevich", "lif"), bitstream_lengths=(4, 8),
        delay_ranges=(1, 7), densities=(0.25, 1), generators=("lfsr", "sobol"), lanes=(5, 0), timesteps=4,
        word=16, fraction=9, readout="spikes",
    )  # fmt: skip
    for gene, value in outside.items():
        assert replace(inside, **{gene: value}) not in space, gene
    assert replace(inside, layer_widths=(7, 4)) not in space
    assert Architecture(6, (3,), ("lif",), (4,), (0,), timesteps=8, word=12) not in space  # too shallow
    assert Architecture(6, (7, 7, 7, 3), ("lif",) * 4, (4,) * 4, (0,) * 4, timesteps=8, word=12) not in space
    assert "inside" not in space and None not in space
    parallel = replace(space, mapping_choices=("parallel",))
    assert inside not in parallel and replace(inside, mappings=None, lanes=None) in parallel


# --- drawing --------------------------------------------------------------------------------------

RNGS = {"Generator": np.random.default_rng, "RandomState": np.random.RandomState}


@st.composite
def spaces(draw):
    def some(values, most=3):
        return draw(st.lists(st.sampled_from(values), min_size=1, max_size=most))

    low = draw(st.integers(1, 3))
    return SearchSpace(
        draw(st.integers(1, 9)), draw(st.integers(1, 4)), low, draw(st.integers(low, 4)),
        some([1, 2, 8, 30]), some(NEURONS), some([1, 2, 4, 64]), some([0, 1, 2, 4, 8]), some([0.1, 0.5, 1.0]),
        some(["sobol", "lfsr"]), some(["parallel", "folded"]), some([1, 4, 8, 64]), some([1, 2, 4, 8, 16]),
        some([4, 12, 16, 24]), readout=draw(st.sampled_from(("membrane", "spikes"))),
        units_choices=some([1, 2, 3, 8, 256]),
    )  # fmt: skip


@settings(max_examples=150)
@given(spaces(), st.integers(0, 2**32 - 1), st.sampled_from(list(RNGS)))
def test_everything_returned_lies_in_the_space(space, seed, kind):
    assume(space.space_size > 2)
    rng = RNGS[kind](seed)
    a, b = space.random_architecture(rng), space.random_architecture(rng)
    assert a in space and b in space
    for _ in range(5):
        mutant, child = space.mutate(a, rng), space.crossover(a, b, rng)
        assert mutant in space and child in space
        assert mutant != a
        assert child not in (a, b)
        a, b = mutant, child


@pytest.mark.parametrize("kind", RNGS)
def test_equal_generators_draw_equal_architectures(kind):
    space = SearchSpace(6, 3)

    def drawn():
        rng = RNGS[kind](7)
        a, b = space.random_architecture(rng), space.random_architecture(rng)
        return a, b, space.mutate(a, rng), space.crossover(a, b, rng)

    assert drawn() == drawn()


SMALL_ENOUGH = [name for name, space in TINY.items() if space.space_size < 200]  # to be found by chance


@pytest.mark.parametrize("name", SMALL_ENOUGH)
def test_random_drawing_finds_the_whole_space(name):
    space, rng = TINY[name], np.random.default_rng(0)
    left = every(space)
    for _ in range(20_000):
        left.discard(space.random_architecture(rng))
        if not left:
            return
    raise AssertionError(f"never drawn: {left}")


@pytest.mark.parametrize("name", [name for name in SMALL_ENOUGH if TINY[name].space_size > 1])
def test_mutation_wanders_through_the_whole_space(name):
    """From any place to any other: no corner that mutation cannot leave or reach."""
    space, rng = TINY[name], np.random.default_rng(0)
    left = every(space)
    a = space.random_architecture(rng)
    for _ in range(20_000):
        left.discard(a)
        if not left:
            return
        a = space.mutate(a, rng)
    raise AssertionError(f"never reached: {left}")


WIDE = SearchSpace(
    6, 3, 1, 4, [8, 16, 32], NEURONS, [4, 8, 16], [0, 1, 2], [0.25, 0.5, 1], ["sobol", "lfsr"],
    ["parallel", "folded"], [2, 4], [8, 16], [12, 16], readout="spikes",
)  # fmt: skip
MIDDLE = Architecture(
    6, (8, 16, 3), ("lif", "if", "lif"), (4, 8, 16), (0, 1, 2), (0.25, 0.5, 1), ("sobol", "lfsr", "sobol"),
    ("folded", "parallel", "folded"), (2, 0, 4), readout="spikes",
)  # fmt: skip


def test_mutation_reaches_every_gene_of_every_layer():
    rng, changed = np.random.default_rng(1), Counter()
    for _ in range(3000):
        child = WIDE.mutate(MIDDLE, rng)
        for gene in ("timesteps", "word"):
            changed[gene] += getattr(child, gene) != getattr(MIDDLE, gene)
        if child.n_layers == MIDDLE.n_layers:
            for gene in (
                "layer_widths", "neuron_types", "bitstream_lengths", "delay_ranges", "densities",
                "generators", "mappings", "lanes",
            ):  # fmt: skip
                for i, (was, now) in enumerate(zip(getattr(MIDDLE, gene), getattr(child, gene), strict=True)):
                    changed[gene, i] += was != now
    never = {what for what, times in changed.items() if times < 15}
    assert never == {("layer_widths", 2)}  # the number of outputs is the task's
    assert len(changed) == 2 + 8 * 3


def test_mutation_inserts_a_layer_at_any_place_and_removes_any():
    """Widths tell the layers apart: 8, 16, 32 and the outputs."""
    rng = np.random.default_rng(2)
    space = replace(WIDE, width_choices=(8, 16, 32, 64))
    seen = Counter(space.mutate(MIDDLE, rng).layer_widths for _ in range(4000))
    for inserted in ((64, 8, 16, 3), (8, 64, 16, 3), (8, 16, 64, 3), (16, 3), (8, 3)):
        assert seen[inserted] >= 10, inserted


def test_an_average_mutant_differs_in_about_one_gene():
    rng = np.random.default_rng(3)
    changes = []
    for _ in range(500):
        child = WIDE.mutate(MIDDLE, rng)
        if child.n_layers == MIDDLE.n_layers:
            was, now = MIDDLE.to_dict(), child.to_dict()
            changes.append(
                sum(
                    sum(a != b for a, b in zip(was[g], now[g], strict=True))
                    if isinstance(was[g], list)
                    else was[g] != now[g]
                    for g in was
                )
            )
    assert min(changes) >= 1 and 1 < np.mean(changes) < 2


def test_depth_stays_between_its_ends():
    rng = np.random.default_rng(4)
    for low, high in ((1, 1), (2, 2), (1, 2), (2, 4)):
        space = replace(WIDE, min_layers=low, max_layers=high)
        a, depths = space.random_architecture(rng), set()
        for _ in range(300):
            a = space.mutate(a, rng)
            depths.add(a.n_layers)
        assert depths == set(range(low, high + 1))


def test_crossover_yields_either_depth_and_genes_of_both():
    rng = np.random.default_rng(5)
    shallow = Architecture(
        6, (32, 3), ("izhikevich",) * 2, (8, 4), (2, 0), (0.5, 0.25), timesteps=16, word=12, readout="spikes"
    )
    deep = Architecture(
        6, (8, 16, 16, 3), ("lif",) * 4, (16, 16, 16, 8), (0,) * 4, (1, 1, 1, 0.5), ("lfsr",) * 4,
        readout="spikes",
    )  # fmt: skip
    children = [WIDE.crossover(shallow, deep, rng) for _ in range(600)]
    depths = Counter(child.n_layers for child in children)
    assert depths.keys() == {2, 4} and min(depths.values()) > 200
    for child in children:
        assert child not in (shallow, deep)
        for gene in ("timesteps", "word"):
            assert getattr(child, gene) in (getattr(shallow, gene), getattr(deep, gene))
        # The output layer of either parent meets that of the other, never a hidden one.
        assert child.bitstream_lengths[-1] in (4, 8) and child.densities[-1] in (0.25, 0.5)
    short = [child for child in children if child.n_layers == 2]
    widths = {child.layer_widths[0] for child in short}
    assert widths == {32, 8, 16}  # its own, and lined up at the input and at the output
    assert {(child.timesteps, child.word) for child in children} == {(16, 12), (16, 16), (8, 12), (8, 16)}
    for gene in ("neuron_types", "bitstream_lengths", "delay_ranges", "densities", "generators"):
        mixed = [set(getattr(child, gene)[:-1]) for child in children if child.n_layers == 4]
        assert any(len(genes) > 1 for genes in mixed), gene


def test_hidden_layers_meet_at_the_input_side_or_at_the_output_side():
    rng = np.random.default_rng(6)
    shallow = replace(MIDDLE, layer_widths=(32, 3), **{g: getattr(MIDDLE, g)[:2] for g in (
        "neuron_types", "bitstream_lengths", "delay_ranges", "densities", "generators", "mappings", "lanes",
    )})  # fmt: skip
    seen = {WIDE.crossover(shallow, MIDDLE, rng).layer_widths for _ in range(400)}
    assert {(32, 16, 3), (8, 32, 3), (8, 3), (16, 3)} <= seen


def test_a_child_of_equal_parents_is_a_mutant():
    rng = np.random.default_rng(7)
    assert all(WIDE.crossover(MIDDLE, MIDDLE, rng) != MIDDLE for _ in range(50))


def test_a_space_of_one_or_two_has_no_third():
    rng = np.random.default_rng(8)
    one = TINY["one architecture"]
    (only,) = every(one)
    assert one.random_architecture(rng) == only
    assert one.crossover(only, only, rng) == only
    with pytest.raises(ValueError, match="holds one architecture only, so it has no mutants"):
        one.mutate(only, rng)
    two = replace(one, word_choices=(12, 16))
    a, b = every(two)
    assert two.mutate(a, rng) == b
    assert two.crossover(a, b, rng) in (a, b)
    assert two.crossover(a, a, rng) == b


def test_a_stranger_is_refused():
    stranger = replace(MIDDLE, layer_widths=(9, 16, 3))
    rng = np.random.default_rng(9)
    for call in (
        lambda: WIDE.mutate(stranger, rng),
        lambda: WIDE.crossover(MIDDLE, stranger, rng),
        lambda: WIDE.crossover(stranger, MIDDLE, rng),
    ):
        with pytest.raises(ValueError, match="the architecture must lie in the search space, got"):
            call()


def test_a_gene_that_gains_an_effect_is_not_stuck():
    """Lanes of a parallel layer and delays beyond T become any choice once they matter."""
    space = SearchSpace(
        30, 2, 1, 1, [4], ["lif"], [4], [0, 4, 8], [1.0], ["sobol"], ["parallel", "folded"], [4, 8, 16],
        [1, 16], [16],
    )  # fmt: skip
    rng = np.random.default_rng(10)
    parallel = Architecture(30, (2,), ("lif",), (4,), (0,), timesteps=1)
    seen = [space.mutate(parallel, rng) for _ in range(1000)]
    assert {a.lanes[0] for a in seen if a.mappings[0] == "folded"} == {4, 8, 16}
    capped = Architecture(30, (2,), ("lif",), (4,), (3,), timesteps=4)
    space = replace(space, timesteps_choices=(4, 16))
    seen = [space.mutate(capped, rng) for _ in range(1000)]
    assert {a.delay_ranges[0] for a in seen if a.timesteps == 16} == {0, 4, 8}


# What was made canonical, beside a mate in which it is not: space, one, mate, the gene that sets it free with
# its value, and the canonical gene with what it could have come from.
CANONICAL = {
    "delay beyond T": (
        SearchSpace(
            30, 2, 1, 1, [4], ["lif"], [4], [1, 4, 8], [1.0], ["sobol"], ["parallel"], [8], [4, 16], [12, 16]
        ),
        Architecture(30, (2,), ("lif",), (4,), (3,), timesteps=4),
        Architecture(30, (2,), ("lif",), (4,), (8,), timesteps=16, word=12),
        ("timesteps", 16), ("delay_ranges", {4, 8}),
    ),
    "lanes beyond the taps": (
        SearchSpace(
            6, 2, 1, 1, [4], ["lif"], [4], [0, 15], [1.0], ["sobol"], ["folded"], [2, 8, 64], [16], [12, 16]
        ),
        Architecture(6, (2,), ("lif",), (4,), (0,), mappings=("folded",), lanes=(6,), timesteps=16),
        Architecture(
            6, (2,), ("lif",), (4,), (15,), mappings=("folded",), lanes=(64,), timesteps=16, word=12
        ),
        ("delay_ranges", (15,)), ("lanes", {8, 64}),
    ),
    "units beyond what divides": (
        SearchSpace(
            6, 2, 2, 2, [12, 16], ["lif"], [4], [0], [1.0], ["sobol"], ["folded"], [2], [8], [12, 16],
            units_choices=[2, 8],
        ),
        Architecture(
            6, (12, 2), ("lif",) * 2, (4,) * 2, (0,) * 2, mappings=("folded",) * 2, lanes=(2,) * 2,
            units=(6, 1),
        ),
        Architecture(
            6, (16, 2), ("lif",) * 2, (4,) * 2, (0,) * 2, mappings=("folded",) * 2, lanes=(2,) * 2,
            units=(8, 1), word=12,
        ),
        ("layer_widths", (16, 2)), ("units", {8}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CANONICAL)
def test_a_canonical_gene_becomes_a_choice_that_it_could_have_come_from(case, monkeypatch):
    """A cap of 3 steps was a delay of 4 or 8, never one of 1."""
    space, one, mate, (free, value), (gene, able) = CANONICAL[case]
    assert one in space and mate in space and getattr(one, gene)[0] not in getattr(mate, gene)
    rng, seen, impossible = np.random.default_rng(12), Counter(), 0
    for _ in range(6000):
        mutant = space.mutate(one, rng)
        if getattr(mutant, free) == value:
            seen["mutants"] += 1
            impossible += getattr(mutant, gene)[0] not in able
    assert seen["mutants"] > 100 and impossible < 0.15 * seen["mutants"]  # those mutated in both genes
    monkeypatch.setattr(SearchSpace, "mutate", lambda *_: None)  # a child of both that no mutation touched
    children = [space.crossover(one, mate, rng) for _ in range(300)]
    free_ones = [child for child in children if child is not None and getattr(child, free) == value]
    assert {getattr(child, gene)[0] for child in free_ones} == able


def test_units_are_inherited_from_either_parent_layer_by_layer(monkeypatch):
    space = SearchSpace(
        6, 2, 3, 3, [16], ["lif"], [4], [0], [1.0], ["sobol"], ["folded"], [2], [8], [12, 16],
        units_choices=[1, 2, 4, 8],
    )  # fmt: skip
    alike = dict(mappings=("folded",) * 3, lanes=(2,) * 3)
    one = Architecture(6, (16, 16, 2), ("lif",) * 3, (4,) * 3, (0,) * 3, units=(2, 2, 1), **alike)
    mate = replace(one, units=(8, 8, 1), word=12)
    monkeypatch.setattr(SearchSpace, "mutate", lambda *_: None)
    rng = np.random.default_rng(13)
    children = [space.crossover(one, mate, rng) for _ in range(200)]
    seen = {child.units for child in children if child is not None}
    assert seen == {(2, 2, 1), (2, 8, 1), (8, 2, 1), (8, 8, 1)}


def test_mutation_reaches_the_units_of_every_layer_that_can_have_some():
    space = replace(WIDE, units_choices=(1, 2, 4))
    start = replace(MIDDLE, mappings=("folded",) * 3, lanes=(2,) * 3, units=(2, 4, 1))
    rng = np.random.default_rng(14)
    seen = [space.mutate(start, rng) for _ in range(3000)]
    alike = [a for a in seen if a.layer_widths == start.layer_widths and a.mappings == start.mappings]
    assert {a.units[0] for a in alike} == {a.units[1] for a in alike} == {1, 2, 4}
    assert {a.units[2] for a in alike} == {1}
    changed = Counter(sum(x != y for x, y in zip(a.units, start.units, strict=True)) for a in alike)
    assert changed[1] > 10 * changed[2] > 0


def test_other_units_are_not_in_the_space():
    space = SearchSpace(
        6, 2, 2, 2, [12], ["lif"], [4], [0], [1.0], ["sobol"], ["folded", "parallel"], [2], [8], [16],
        units_choices=[2, 8],
    )  # fmt: skip
    alike = dict(mappings=("folded",) * 2, lanes=(2,) * 2)
    inside = Architecture(6, (12, 2), ("lif",) * 2, (4,) * 2, (0,) * 2, units=(2, 1), **alike)
    assert inside in space and replace(inside, units=(6, 1)) in space  # 8 does not divide 12, 6 does
    for units in (1, 3, 4):
        assert replace(inside, units=(units, 1)) not in space
    assert replace(inside, mappings=None, lanes=None, units=None) in space


def test_drawing_is_fast():
    """A generation of hundreds of children must not cost a second of anybody's time."""
    space, rng = SearchSpace(64, 10), np.random.default_rng(11)
    started = time.perf_counter()
    a, b = space.random_architecture(rng), space.random_architecture(rng)
    for _ in range(100):
        space.mutate(space.crossover(a, b, rng), rng)
    assert time.perf_counter() - started < 1  # 25 ms; forty times that allows for a busy machine
