// One update of a neuron as a function: state in, state out. The datapath of a folded layer, whose neurons
// take turns and keep their states in a memory. Same arithmetic as the neuron cells.
//
//   MODEL 0  lif (`if` by leak_k = 0, `stochastic_lif` by noise_in); `extra` is not used
//   MODEL 1  homeostatic_lif; `extra` is the adaptation a
//   MODEL 2  izhikevich; `extra` is the recovery u
//
// `waiting`: refractory steps still to come. Purely combinational.
module sc_neuron_update #(
    parameter MODEL = 0,
    parameter DATA_WIDTH = 16,
    parameter FRACTION = 8,
    parameter V_REST = 0,
    parameter V_RESET = 0,
    parameter REFRACTORY_PERIOD = 0,
    parameter DECAY_K = 0,
    parameter BUMP_K = 0,
    parameter A_K = 0,
    parameter B_K = 0,
    parameter D_K = 0,
    parameter WAITING_WIDTH = 1,
    parameter NOISE_WIDTH = DATA_WIDTH
) (
    input  wire signed [DATA_WIDTH-1:0]  leak_k,
    input  wire signed [DATA_WIDTH-1:0]  gain_k,
    input  wire signed [DATA_WIDTH-1:0]  threshold,
    input  wire signed [DATA_WIDTH-1:0]  I_t,
    input  wire signed [NOISE_WIDTH-1:0] noise_in,
    input  wire signed [DATA_WIDTH-1:0]  v,
    input  wire signed [DATA_WIDTH-1:0]  extra,
    input  wire [WAITING_WIDTH-1:0]      waiting,
    output wire                          fires,
    output wire signed [DATA_WIDTH-1:0]  v_next,
    output wire signed [DATA_WIDTH-1:0]  extra_next,
    output wire [WAITING_WIDTH-1:0]      waiting_next
);
    localparam FULL = 3 * DATA_WIDTH + NOISE_WIDTH + 8;
    /* verilator lint_off WIDTH */
    localparam signed [FULL-1:0] ONE_POINT_FOUR = (7 * (1 << FRACTION) + 2) / 5;
    localparam signed [FULL-1:0] REST = V_REST;
    localparam signed [FULL-1:0] RESET = V_RESET;
    localparam signed [FULL-1:0] DECAY = DECAY_K;
    localparam signed [FULL-1:0] BUMP = BUMP_K;
    localparam signed [FULL-1:0] A = A_K;
    localparam signed [FULL-1:0] B = B_K;
    localparam signed [FULL-1:0] D = D_K;
    /* verilator lint_on WIDTH */
    localparam [31:0] PERIOD = REFRACTORY_PERIOD;

    function signed [DATA_WIDTH-1:0] saturated(input signed [FULL-1:0] value);
        // In range when all bits from the sign of the word upwards agree: gates, where a comparison with
        // the limits would be two carry chains over the full width.
        saturated = (&value[FULL-1:DATA_WIDTH-1] | ~|value[FULL-1:DATA_WIDTH-1]) ? value[DATA_WIDTH-1:0] :
            {value[FULL-1], {(DATA_WIDTH - 1){~value[FULL-1]}}};
    endfunction

    function signed [FULL-1:0] wide(input signed [DATA_WIDTH-1:0] value);
        wide = {{(FULL - DATA_WIDTH){value[DATA_WIDTH-1]}}, value};
    endfunction

    wire rests = waiting != {WAITING_WIDTH{1'b0}};
    wire signed [FULL-1:0] driven = (wide(I_t) * wide(gain_k)) >>> FRACTION;
    wire signed [FULL-1:0] noise = {{(FULL - NOISE_WIDTH){noise_in[NOISE_WIDTH-1]}}, noise_in};
    wire signed [FULL-1:0] own;  // v + what the neuron does by itself
    wire signed [FULL-1:0] limit;
    wire signed [DATA_WIDTH-1:0] p = saturated(own + driven + noise);

    assign fires = ~rests & wide(p) >= limit;
    assign v_next = rests ? REST[DATA_WIDTH-1:0] : fires ? RESET[DATA_WIDTH-1:0] : p;
    assign waiting_next =
        fires ? PERIOD[WAITING_WIDTH-1:0] : waiting - {{(WAITING_WIDTH - 1){1'b0}}, rests};

    generate
        if (MODEL == 2) begin : izhikevich
            wire signed [FULL-1:0] square = (wide(v) * wide(v)) >>> FRACTION;
            wire signed [FULL-1:0] six = (wide(v) <<< 2) + (wide(v) <<< 1);
            wire signed [FULL-1:0] target = (B * wide(v)) >>> FRACTION;
            wire signed [FULL-1:0] moved = (A * (target - wide(extra))) >>> FRACTION;
            assign own = (square <<< 2) + six + ONE_POINT_FOUR - wide(extra);
            assign limit = wide(threshold);
            assign extra_next = saturated(wide(extra) + moved + (fires ? D : {FULL{1'b0}}));
        end else begin : leaky
            assign own = wide(v) + (((REST - wide(v)) * wide(leak_k)) >>> FRACTION);
            if (MODEL == 1) begin : adapts
                wire signed [FULL-1:0] decay = (wide(extra) * DECAY) >>> FRACTION;
                assign limit = wide(threshold) + wide(extra);
                assign extra_next = saturated(wide(extra) - decay + (fires ? BUMP : {FULL{1'b0}}));
            end else begin : fixed
                assign limit = wide(threshold);
                assign extra_next = extra;
            end
        end
    endgenerate
endmodule
