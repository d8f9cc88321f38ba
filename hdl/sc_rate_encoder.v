// One feature as spikes: `value`, 0..2^STEPS_LOG2, becomes that many spikes in 2^STEPS_LOG2 steps, in the
// order of the first Sobol dimension: a spike iff value > the bits of `t` reversed.
module sc_rate_encoder #(
    parameter STEPS_LOG2 = 3
) (
    input  wire [STEPS_LOG2:0]   value,
    input  wire [STEPS_LOG2-1:0] t,
    output wire                  spike
);
    wire [STEPS_LOG2-1:0] reversed;
    genvar i;
    generate
        for (i = 0; i < STEPS_LOG2; i = i + 1) begin : bits
            assign reversed[i] = t[STEPS_LOG2-1-i];
        end
    endgenerate
    assign spike = value > {1'b0, reversed};
endmodule
