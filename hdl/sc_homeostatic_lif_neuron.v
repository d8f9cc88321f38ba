// Leaky integrate-and-fire neuron whose threshold rises with every spike and decays.
//
//   p = sat(v + mul(V_REST - v, leak_k) + mul(I_t, gain_k) + noise_in),  mul(a, k) = (a * k) >>> FRACTION
//   fires iff p >= V_THRESHOLD + a; then v = V_RESET, else v = p
//   a = sat(a - mul(a, DECAY_K) + (BUMP_K if it fired)), 0 at the start
//   For REFRACTORY_PERIOD steps after a spike it does not fire and v = V_REST, while a goes on.
//
// Built like sc_lif_neuron, which explains why, with two differences: the limit is a sum, so the comparison
// is a carry chain, and a membrane at the top of the word need not fire. The register `a` holds the value
// with which the last update was compared; the bump follows one step later, before it is next needed.
module sc_homeostatic_lif_neuron #(
    parameter DATA_WIDTH = 16,
    parameter FRACTION = 8,
    parameter V_REST = 0,
    parameter V_RESET = 0,
    parameter V_THRESHOLD = 256,
    parameter REFRACTORY_PERIOD = 0,
    parameter DECAY_K = 16,
    parameter BUMP_K = 64,
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
    localparam signed [SUM_WIDTH-1:0] MAXIMUM = -WORD_MINIMUM - 1 - V_REST;
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

    // a of the last update: what its membrane was compared with. `raised` follows from whether it fired.
    reg signed [DATA_WIDTH-1:0] a;
    wire signed [SUM_WIDTH-1:0] limit = THRESHOLD + {{(SUM_WIDTH - DATA_WIDTH){a[DATA_WIDTH-1]}}, a};

    wire too_low = ~at_least(x, MINIMUM);
    wire too_high = at_least(x, MAXIMUM);
    wire signed [SUM_WIDTH-1:0] clamped = too_low ? MINIMUM : too_high ? MAXIMUM : x;
    wire fired = ~resting & clamped >= limit;
    wire plain = ~resting & ~fired & ~too_low & ~too_high;
    wire signed [SUM_WIDTH-1:0] v = resting ? {SUM_WIDTH{1'b0}} : fired ? RESET : clamped;
    wire signed [SUM_WIDTH-1:0] v_absolute = v + ORIGIN;
    assign spike_out = fired;
    assign v_out = v_absolute[DATA_WIDTH-1:0];

    wire signed [SUM_WIDTH-1:0] kept = plain ? leaked(x, leak, one) :
        resting ? {SUM_WIDTH{1'b0}} : fired ? leaked(RESET, leak, one) :
        too_low ? leaked(MINIMUM, leak, one) : leaked(MAXIMUM, leak, one);
    wire signed [PRODUCT-1:0] current = {{(PRODUCT - DATA_WIDTH){I_t[DATA_WIDTH-1]}}, I_t};
    wire signed [PRODUCT-1:0] driven = (current * gain) >>> FRACTION;
    wire signed [SUM_WIDTH-1:0] p = kept + driven[SUM_WIDTH-1:0];
    wire signed [SUM_WIDTH-1:0] noise = {{(SUM_WIDTH - NOISE_WIDTH){noise_in[NOISE_WIDTH-1]}}, noise_in};

    always @(posedge clk or negedge rst_n)
        if (!rst_n) x <= {SUM_WIDTH{1'b0}};
        else if (step) x <= p + noise;

    /* verilator lint_off WIDTH */
    localparam signed [PRODUCT-1:0] DECAY = DECAY_K;
    localparam signed [PRODUCT-1:0] BUMP = BUMP_K;
    /* verilator lint_on WIDTH */
    wire signed [PRODUCT-1:0] a_wide = {{(PRODUCT - DATA_WIDTH){a[DATA_WIDTH-1]}}, a};
    wire signed [PRODUCT-1:0] a_decay = (a_wide * DECAY) >>> FRACTION;
    wire signed [PRODUCT-1:0] raised = a_wide - a_decay + (fired ? BUMP : {PRODUCT{1'b0}});
    // In range when all bits from the sign of the word upwards agree: cheaper than two comparisons.
    wire in_range = &raised[PRODUCT-1:DATA_WIDTH-1] | ~|raised[PRODUCT-1:DATA_WIDTH-1];
    always @(posedge clk or negedge rst_n)
        if (!rst_n) a <= {DATA_WIDTH{1'b0}};
        else if (step) a <= in_range ? raised[DATA_WIDTH-1:0] : {raised[PRODUCT-1], {(DATA_WIDTH - 1){~raised[PRODUCT-1]}}};

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
