// Reference of sc_izhikevich_neuron, for proofs alone; see sc_lif_reference for how it is written.
// Products stay products (4 * mul(v, v) + 5 * v on top of v), where the cell shifts and adds.
module sc_izhikevich_reference #(
    parameter DATA_WIDTH = 16,
    parameter FRACTION = 8,
    parameter V_REST = -166,
    parameter V_RESET = -166,
    parameter V_THRESHOLD = 77,
    parameter REFRACTORY_PERIOD = 0,
    parameter A_K = 5,
    parameter B_K = 51,
    parameter D_K = 20,
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
    localparam signed [127:0] SCALE = 128'sd1 << FRACTION;
    localparam signed [127:0] HIGHEST = (128'sd1 << (DATA_WIDTH - 1)) - 128'sd1;
    localparam signed [127:0] LOWEST = -(128'sd1 << (DATA_WIDTH - 1));
    localparam signed [127:0] REST = V_REST;
    localparam signed [127:0] RESET = V_RESET;
    localparam signed [127:0] THRESHOLD = V_THRESHOLD;
    localparam signed [127:0] A = A_K;
    localparam signed [127:0] B = B_K;
    localparam signed [127:0] D = D_K;

    function signed [127:0] mul(input signed [127:0] a, input signed [127:0] k);
        reg signed [127:0] product, quotient;
        begin
            product = a * k;
            quotient = product / SCALE;
            if (product < 0 && quotient * SCALE != product) quotient = quotient - 128'sd1;
            mul = quotient;
        end
    endfunction

    function signed [127:0] sat(input signed [127:0] value);
        begin
            sat = value;
            if (value > HIGHEST) sat = HIGHEST;
            if (value < LOWEST) sat = LOWEST;
        end
    endfunction

    // 1.4 to the nearest multiple of 2^-FRACTION: 1.4 * 2^FRACTION + 1/2, rounded down.
    localparam signed [127:0] ONE_POINT_FOUR = (128'sd14 * SCALE + 128'sd5) / 128'sd10;
    localparam signed [127:0] U_PRODUCT = B * RESET;
    localparam signed [127:0] U_TRUNCATED = U_PRODUCT / SCALE;
    localparam signed [127:0] U_START =
        (U_PRODUCT < 0 && U_TRUNCATED * SCALE != U_PRODUCT) ? U_TRUNCATED - 128'sd1 : U_TRUNCATED;

    integer waiting;
    reg signed [DATA_WIDTH-1:0] u;
    reg signed [127:0] p, recovery;
    reg fires;

    wire signed [127:0] v = v_out;
    wire signed [127:0] square = mul(v, v);
    wire signed [127:0] drive = mul(I_t, gain_k);
    wire signed [127:0] target = mul(B, v);
    wire signed [127:0] moved = mul(A, target - u);

    always @* begin
        p = sat(v + 128'sd4 * square + 128'sd5 * v + ONE_POINT_FOUR - u + drive + noise_in);
        fires = waiting == 0 && p >= THRESHOLD;
        recovery = u + moved;
        if (fires) recovery = recovery + D;
        recovery = sat(recovery);
    end

    always @(posedge clk or negedge rst_n)
        if (!rst_n) begin
            v_out <= RESET[DATA_WIDTH-1:0];
            u <= U_START[DATA_WIDTH-1:0];
            spike_out <= 1'b0;
            waiting <= 0;
        end else if (step) begin
            u <= recovery[DATA_WIDTH-1:0];
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
