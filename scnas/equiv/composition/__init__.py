"""A whole inference on the generated top: every input, every timing of the inputs, from any state.

The top is run clock by clock with symbols for spikes while its control, which no data reaches, is known. What
is proved on its own is cut out and stands here for what it was proved to be:

- the counts of a parallel layer and the lane sum of a folded one: a free symbol that means a signed sum of
  the spike bits that were at its inputs (`equiv.counts`, `equiv.lanes`);
- a neuron: checked to get the right current, noise and constants once a step, and to be cleared at the start;
  its spike is a free symbol (`equiv.neuron`).

Then every current is compared with the contract: the meanings of its symbols add up to
sum_i sign_ij * ones_ij(t) * s[t - d_ij, i], and the term is sat_W of that sum, scaled. So are the scores, the
class, and the clock in which `done` comes.

Layers are taken one by one, the input registers with the first, the class with the last. S, P, d, r are those
of `hardware.schedule`. What one promises the next, and may rely on itself:

    go      in the clock after it the spikes of a step are there (a parallel layer: until the next go); two
            lie at least S clocks apart. The first layer's lie P apart, T of them, as soon as the inputs are
            there; a later one gets `next` of the layer before
    next    comes d clocks after each go and at no other time, with the spikes of its step
    done    comes d + r clocks after the last go

By induction over the layers the inference is right, and takes the clocks of the schedule if no input is late.
Letters as in SEMANTICS.md; depth: number of a layer, j neuron.

    inference   every inference of a layer followed, clock by clock
    view        a layer in the elaborated top: its wires, registers and inputs
    sums        what counts, currents and scores should be, and what the symbols mean
    work        one clock of a layer: what is checked, and what is cut out
    readout     scores and class
"""
