// Reference of sc_homeostatic_lif_neuron, for proofs alone; see sc_lif_reference for how it is written.
// Its adaptation `a` is the one that the next update is compared with; the cell's is one step older.
module sc_homeostatic_lif_reference #(
    parameter DATA_WIDTH = 16,
    parameter FRACTION = 8,
    parameter V_REST = 0,
    parameter V_RESET = 0,
    parameter V_THRESHOLD = 256,
    parameter REFRACTORY_PERIOD = 0,
    parameter DECAY_K = 16,
    parameter BUMP_K = 64,
    parameter NOISE_WIDTH = DATA_WIDTH
) (
    input  wire                          clk,
    input  wire                          rst_n,
    input  wire                          step,
    input  wire signed [DATA_WIDTH-1:0]  leak_k,
    input  wire signed [DATA_WIDTH-1:0]  gain_k,
    input  wire signed [DATA_WIDTH-1:0]  I_t,
    input  wire signed [NOISE_WIDTH-1:0] noise_in,
    output reg                           spike_out,
    output reg  signed [DATA_WIDTH-1:0]  v_out
);
    localparam signed [95:0] SCALE = 96'sd1 << FRACTION;
    localparam signed [95:0] HIGHEST = (96'sd1 << (DATA_WIDTH - 1)) - 96'sd1;
    localparam signed [95:0] LOWEST = -(96'sd1 << (DATA_WIDTH - 1));
    localparam signed [95:0] REST = V_REST;
    localparam signed [95:0] RESET = V_RESET;
    localparam signed [95:0] THRESHOLD = V_THRESHOLD;
    localparam signed [95:0] DECAY = DECAY_K;
    localparam signed [95:0] BUMP = BUMP_K;

    function signed [95:0] mul(input signed [95:0] a, input signed [95:0] k);
        reg signed [95:0] product, quotient;
        begin
            product = a * k;
            quotient = product / SCALE;
            if (product < 0 && quotient * SCALE != product) quotient = quotient - 96'sd1;
            mul = quotient;
        end
    endfunction

    function signed [95:0] sat(input signed [95:0] value);
        begin
            sat = value;
            if (value > HIGHEST) sat = HIGHEST;
            if (value < LOWEST) sat = LOWEST;
        end
    endfunction

    integer waiting;
    reg signed [DATA_WIDTH-1:0] a;
    reg signed [95:0] p, adaptation;
    reg fires;

    wire signed [95:0] remaining = v_out + mul(REST - v_out, leak_k);
    wire signed [95:0] drive = mul(I_t, gain_k);

    always @* begin
        p = sat(remaining + drive + noise_in);
        fires = waiting == 0 && p >= THRESHOLD + a;
        adaptation = a - mul(a, DECAY);
        if (fires) adaptation = adaptation + BUMP;
        adaptation = sat(adaptation);
    end

    always @(posedge clk or negedge rst_n)
        if (!rst_n) begin
            v_out <= REST[DATA_WIDTH-1:0];
            spike_out <= 1'b0;
            waiting <= 0;
            a <= 0;
        end else if (step) begin
            a <= adaptation[DATA_WIDTH-1:0];
            spike_out <= fires;
            if (waiting > 0) begin
                waiting <= waiting - 1;
                v_out <= REST[DATA_WIDTH-1:0];
            end else if (fires) begin
                waiting <= REFRACTORY_PERIOD;
                v_out <= RESET[DATA_WIDTH-1:0];
            end else v_out <= p[DATA_WIDTH-1:0];
        end
endmodule
