// Izhikevich neuron; the membrane counts in units of 100 mV.
//
//   p = sat(v + 4 mul(v, v) + 5 v + 1.4 - u + mul(I_t, gain_k) + noise_in),  mul(a, k) = (a * k) >>> FRACTION
//   fires iff p >= V_THRESHOLD; then v = V_RESET, else v = p
//   u = sat(u + mul(A_K, mul(B_K, v) - u) + (D_K if it fired)), with the v from before the step
//   For REFRACTORY_PERIOD steps after a spike it does not fire and v = V_REST, while u goes on.
//   At the start v = V_RESET and u = mul(B_K, V_RESET).
//
// leak_k is not used. One update in every clock in which `step` is high. v_out is the membrane after the
// last update, spike_out whether that update fired; both are registers.
module sc_izhikevich_neuron #(
    parameter DATA_WIDTH = 16,
    parameter FRACTION = 8,
    parameter V_REST = -166,
    parameter V_RESET = -166,
    parameter V_THRESHOLD = 77,
    parameter REFRACTORY_PERIOD = 0,
    parameter A_K = 5,
    parameter B_K = 51,
    parameter D_K = 20,
    parameter NOISE_WIDTH = DATA_WIDTH  // structure, not function: bits of noise_in
) (
    input  wire                          clk,
    input  wire                          rst_n,
    input  wire                          step,
    input  wire signed [DATA_WIDTH-1:0]  leak_k,
    input  wire signed [DATA_WIDTH-1:0]  gain_k,
    input  wire signed [DATA_WIDTH-1:0]  I_t,
    input  wire signed [NOISE_WIDTH-1:0] noise_in,
    output reg                           spike_out,
    output wire signed [DATA_WIDTH-1:0]  v_out
);
    localparam FULL = 3 * DATA_WIDTH + NOISE_WIDTH + 8;  // holds every product and sum
    /* verilator lint_off WIDTH */
    localparam signed [FULL-1:0] ONE_POINT_FOUR = (7 * (1 << FRACTION) + 2) / 5;
    localparam signed [FULL-1:0] A = A_K;
    localparam signed [FULL-1:0] B = B_K;
    localparam signed [FULL-1:0] D = D_K;
    localparam signed [FULL-1:0] REST = V_REST;
    localparam signed [FULL-1:0] RESET = V_RESET;
    localparam signed [FULL-1:0] THRESHOLD = V_THRESHOLD;
    localparam signed [FULL-1:0] U_START = (B * RESET) >>> FRACTION;
    /* verilator lint_on WIDTH */

    function signed [DATA_WIDTH-1:0] saturated(input signed [FULL-1:0] value);
        // In range when all bits from the sign of the word upwards agree: gates, where a comparison with
        // the limits would be two carry chains over the full width.
        saturated = (&value[FULL-1:DATA_WIDTH-1] | ~|value[FULL-1:DATA_WIDTH-1]) ? value[DATA_WIDTH-1:0] :
            {value[FULL-1], {(DATA_WIDTH - 1){~value[FULL-1]}}};
    endfunction

    function signed [FULL-1:0] wide(input signed [DATA_WIDTH-1:0] value);
        wide = {{(FULL - DATA_WIDTH){value[DATA_WIDTH-1]}}, value};
    endfunction

    reg signed [DATA_WIDTH-1:0] v, u;
    wire waiting;  // in the refractory period
    assign v_out = v;

    wire signed [FULL-1:0] square = (wide(v) * wide(v)) >>> FRACTION;
    wire signed [FULL-1:0] driven = (wide(I_t) * wide(gain_k)) >>> FRACTION;
    wire signed [FULL-1:0] noise = {{(FULL - NOISE_WIDTH){noise_in[NOISE_WIDTH-1]}}, noise_in};
    wire signed [FULL-1:0] six = (wide(v) <<< 2) + (wide(v) <<< 1);
    wire signed [DATA_WIDTH-1:0] p =
        saturated((square <<< 2) + six + ONE_POINT_FOUR - wide(u) + driven + noise);
    wire fires = ~waiting & wide(p) >= THRESHOLD;

    wire signed [FULL-1:0] target = (B * wide(v)) >>> FRACTION;
    wire signed [FULL-1:0] moved = (A * (target - wide(u))) >>> FRACTION;

    always @(posedge clk or negedge rst_n)
        if (!rst_n) begin
            v <= RESET[DATA_WIDTH-1:0];
            u <= U_START[DATA_WIDTH-1:0];
            spike_out <= 1'b0;
        end else if (step) begin
            v <= waiting ? REST[DATA_WIDTH-1:0] : fires ? RESET[DATA_WIDTH-1:0] : p;
            u <= saturated(wide(u) + moved + (fires ? D : {FULL{1'b0}}));
            spike_out <= fires;
        end

    generate
        if (REFRACTORY_PERIOD == 0) begin : never_rests
            assign waiting = 1'b0;
        end else begin : rests
            localparam BITS = $clog2(REFRACTORY_PERIOD + 1);
            localparam [31:0] PERIOD = REFRACTORY_PERIOD;
            reg [BITS-1:0] left;
            assign waiting = left != {BITS{1'b0}};
            always @(posedge clk or negedge rst_n)
                if (!rst_n) left <= {BITS{1'b0}};
                else if (step) left <= fires ? PERIOD[BITS-1:0] : left - {{(BITS - 1){1'b0}}, waiting};
        end
    endgenerate
endmodule
