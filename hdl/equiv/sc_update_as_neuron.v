// sc_neuron_update, the datapath of folded layers, with registers around it: a neuron of the usual ports, so
// that it can be proved against the same references as the cells. For proofs alone.
module sc_update_as_neuron #(
    parameter MODEL = 0,
    parameter DATA_WIDTH = 16,
    parameter FRACTION = 8,
    parameter V_REST = 0,
    parameter V_RESET = 0,
    parameter V_THRESHOLD = 256,
    parameter REFRACTORY_PERIOD = 0,
    parameter DECAY_K = 0,
    parameter BUMP_K = 0,
    parameter A_K = 0,
    parameter B_K = 0,
    parameter D_K = 0,
    parameter WAITING_WIDTH = 1,
    parameter NOISE_WIDTH = DATA_WIDTH,
    parameter V_START = 0,
    parameter EXTRA_START = 0
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
    localparam signed [DATA_WIDTH-1:0] THRESHOLD = V_THRESHOLD;
    localparam signed [DATA_WIDTH-1:0] FIRST_V = V_START;
    localparam signed [DATA_WIDTH-1:0] FIRST_EXTRA = EXTRA_START;
    reg signed [DATA_WIDTH-1:0] v, extra;
    reg [WAITING_WIDTH-1:0] left;
    wire fires;
    wire signed [DATA_WIDTH-1:0] v_next, extra_next;
    wire [WAITING_WIDTH-1:0] left_next;
    assign v_out = v;

    sc_neuron_update #(
        .MODEL(MODEL), .DATA_WIDTH(DATA_WIDTH), .FRACTION(FRACTION), .V_REST(V_REST), .V_RESET(V_RESET),
        .REFRACTORY_PERIOD(REFRACTORY_PERIOD), .DECAY_K(DECAY_K), .BUMP_K(BUMP_K), .A_K(A_K), .B_K(B_K),
        .D_K(D_K), .WAITING_WIDTH(WAITING_WIDTH), .NOISE_WIDTH(NOISE_WIDTH)
    ) update (
        .leak_k(leak_k), .gain_k(gain_k), .threshold(THRESHOLD), .I_t(I_t), .noise_in(noise_in), .v(v),
        .extra(extra), .waiting(left), .fires(fires), .v_next(v_next), .extra_next(extra_next),
        .waiting_next(left_next)
    );

    always @(posedge clk or negedge rst_n)
        if (!rst_n) begin
            v <= FIRST_V;
            extra <= FIRST_EXTRA;
            left <= {WAITING_WIDTH{1'b0}};
            spike_out <= 1'b0;
        end else if (step) begin
            v <= v_next;
            extra <= extra_next;
            left <= left_next;
            spike_out <= fires;
        end
endmodule
