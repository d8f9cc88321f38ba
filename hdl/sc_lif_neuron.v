// Leaky integrate-and-fire neuron with saturation, reset and a refractory period.
//
//   p = sat(v + mul(V_REST - v, leak_k) + mul(I_t, gain_k) + noise_in),  mul(a, k) = (a * k) >>> FRACTION
//   fires iff p >= V_THRESHOLD; then v = V_RESET, else v = p. For REFRACTORY_PERIOD steps after a spike
//   the neuron does not fire and v = V_REST. v starts at V_REST.
//
// With leak_k = 0 it is the model `if`, with noise it is `stochastic_lif`. One update in every clock in
// which `step` is high; tie it high for one update a clock. v_out is the membrane after the last update
// and spike_out says whether that update fired: both are functions of registers alone, so they change
// together, with the clock edge that ends the step.
//
// How it stays small:
// - The register `x` holds p - V_REST before saturation. Relative to V_REST the leak is x - mul(x, k), one
//   subtraction whatever V_REST is, and all comparisons are with constants: AND/OR chains of few cells.
// - Saturation, reset and rest act on the next update, where they share the cells of its first adder. A
//   logic cell has one output: a sum that feeds a register and a multiplexer would take two cells a bit.
// - A sum above the word needs no clamp: V_THRESHOLD is a word, so it fires, or the neuron rests.
module sc_lif_neuron #(
    parameter DATA_WIDTH = 16,
    parameter FRACTION = 8,
    parameter V_REST = 0,
    parameter V_RESET = 0,
    parameter V_THRESHOLD = 256,
    parameter REFRACTORY_PERIOD = 0,
    // Structure, not function: bits of noise_in; bits that hold p - V_REST for every input (the default
    // does for any constants); whether 1 - leak is cheaper as a sum of two terms (leak 1/4 and 1/2).
    parameter NOISE_WIDTH = DATA_WIDTH,
    parameter SUM_WIDTH = 2 * DATA_WIDTH + NOISE_WIDTH + 4,
    parameter LEAK_AS_SUM = 0
) (
    input  wire                          clk,
    input  wire                          rst_n,
    input  wire                          step,
    input  wire signed [DATA_WIDTH-1:0]  leak_k,
    input  wire signed [DATA_WIDTH-1:0]  gain_k,
    input  wire signed [DATA_WIDTH-1:0]  I_t,
    input  wire signed [NOISE_WIDTH-1:0] noise_in,
    output wire                          spike_out,
    output wire signed [DATA_WIDTH-1:0]  v_out
);
    localparam PRODUCT = SUM_WIDTH + DATA_WIDTH + FRACTION + 2;  // bits of a product before its shift
    localparam WORD_MINIMUM = -(1 << (DATA_WIDTH - 1));
    localparam RESTS = REFRACTORY_PERIOD > 0 || V_REST >= V_THRESHOLD;  // the latter: before step 0 only
    /* verilator lint_off WIDTH */
    // Constants relative to V_REST.
    localparam signed [SUM_WIDTH-1:0] RESET = V_RESET - V_REST;
    localparam signed [SUM_WIDTH-1:0] MINIMUM = WORD_MINIMUM - V_REST;
    localparam signed [SUM_WIDTH-1:0] THRESHOLD = V_THRESHOLD - V_REST;
    localparam signed [SUM_WIDTH-1:0] ORIGIN = V_REST;
    /* verilator lint_on WIDTH */

    // Is value >= limit? With a constant limit a chain of AND and OR, a third of the cells of a carry chain.
    function at_least(input signed [SUM_WIDTH-1:0] value, input signed [SUM_WIDTH-1:0] limit);
        integer i;
        begin
            at_least = 1'b1;
            for (i = 0; i < SUM_WIDTH - 1; i = i + 1)
                at_least = limit[i] ? value[i] & at_least : value[i] | at_least;
            at_least = limit[SUM_WIDTH-1] ? ~value[SUM_WIDTH-1] | at_least : ~value[SUM_WIDTH-1] & at_least;
        end
    endfunction

    wire signed [PRODUCT-1:0] leak = {{(PRODUCT - DATA_WIDTH){leak_k[DATA_WIDTH-1]}}, leak_k};
    wire signed [PRODUCT-1:0] gain = {{(PRODUCT - DATA_WIDTH){gain_k[DATA_WIDTH-1]}}, gain_k};
    wire signed [PRODUCT-1:0] one = {{(PRODUCT - 1){1'b0}}, 1'b1} << FRACTION;

    // What a membrane `value` above V_REST is after one step's leak.
    function signed [SUM_WIDTH-1:0] leaked(
        input signed [SUM_WIDTH-1:0] value, input signed [PRODUCT-1:0] k, input signed [PRODUCT-1:0] unit);
        reg signed [PRODUCT-1:0] wide, left;
        begin
            wide = {{(PRODUCT - SUM_WIDTH){value[SUM_WIDTH-1]}}, value};
            if (LEAK_AS_SUM != 0) left = wide * (unit - (k <<< 1)) + wide * k;
            else left = (wide <<< FRACTION) - wide * k;
            leaked = left[FRACTION+:SUM_WIDTH];
        end
    endfunction

    reg signed [SUM_WIDTH-1:0] x;
    wire resting;

    wire too_low = ~at_least(x, MINIMUM);
    wire fired = ~resting & (at_least(x, THRESHOLD) | V_THRESHOLD == WORD_MINIMUM);
    wire plain = ~resting & ~fired & ~too_low;
    wire signed [SUM_WIDTH-1:0] v = plain ? x : resting ? {SUM_WIDTH{1'b0}} : fired ? RESET : MINIMUM;
    wire signed [SUM_WIDTH-1:0] v_absolute = v + ORIGIN;
    assign spike_out = fired;
    assign v_out = v_absolute[DATA_WIDTH-1:0];

    wire signed [SUM_WIDTH-1:0] kept = plain ? leaked(x, leak, one) :
        resting ? {SUM_WIDTH{1'b0}} : fired ? leaked(RESET, leak, one) : leaked(MINIMUM, leak, one);
    wire signed [PRODUCT-1:0] current = {{(PRODUCT - DATA_WIDTH){I_t[DATA_WIDTH-1]}}, I_t};
    wire signed [PRODUCT-1:0] driven = (current * gain) >>> FRACTION;
    wire signed [SUM_WIDTH-1:0] p = kept + driven[SUM_WIDTH-1:0];
    wire signed [SUM_WIDTH-1:0] noise = {{(SUM_WIDTH - NOISE_WIDTH){noise_in[NOISE_WIDTH-1]}}, noise_in};

    always @(posedge clk or negedge rst_n)
        if (!rst_n) x <= {SUM_WIDTH{1'b0}};
        else if (step) x <= p + noise;

    generate
        if (!RESTS) begin : never_rests
            assign resting = 1'b0;
        end else begin : rests
            localparam BITS = REFRACTORY_PERIOD > 1 ? $clog2(REFRACTORY_PERIOD) : 1;
            localparam [31:0] AFTER_SPIKE = REFRACTORY_PERIOD > 0 ? REFRACTORY_PERIOD - 1 : 0;
            reg rest;
            reg [BITS-1:0] left;  // steps to rest after this one
            wire more = left != {BITS{1'b0}};
            assign resting = rest;
            always @(posedge clk or negedge rst_n)
                if (!rst_n) begin
                    rest <= 1'b1;
                    left <= {BITS{1'b0}};
                end else if (step) begin
                    rest <= (fired && REFRACTORY_PERIOD > 0) || more;
                    left <= fired ? AFTER_SPIKE[BITS-1:0] : left - {{(BITS - 1){1'b0}}, more};
                end
        end
    endgenerate
endmodule
