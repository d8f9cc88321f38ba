// Reference of quadratic_if, for proofs alone, written by hand: integers of 96 bits, in which nothing
// overflows; products are divided by 2^FRACTION with an explicit floor; a clamp is two comparisons.
module quadratic_reference #(
    parameter DATA_WIDTH = 16,
    parameter FRACTION = 8,
    parameter V_REST = 0,
    parameter V_RESET = 0,
    parameter V_THRESHOLD = 256,
    parameter REFRACTORY_PERIOD = 0,
    parameter CRITICAL_K = 0,
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
    localparam signed [95:0] CRITICAL = CRITICAL_K;
    localparam signed [95:0] THRESHOLD = V_THRESHOLD;

    // (a * k) / 2^FRACTION, rounded down: division rounds towards zero, so below zero one less unless exact.
    function signed [95:0] mul(input signed [95:0] a, input signed [95:0] k);
        reg signed [95:0] product, quotient;
        begin
            product = a * k;
            quotient = product / SCALE;
            if (product < 0 && quotient * SCALE != product) quotient = quotient - 96'sd1;
            mul = quotient;
        end
    endfunction

    integer waiting;  // refractory steps still to come
    reg signed [95:0] p;

    wire signed [95:0] product_0 = mul(v_out - REST, v_out - CRITICAL);
    wire signed [95:0] leak = mul(product_0, leak_k);
    wire signed [95:0] drive = mul(I_t, gain_k);

    always @* begin
        p = v_out + leak + drive;
        if (p > HIGHEST) p = HIGHEST;
        if (p < LOWEST) p = LOWEST;
    end

    always @(posedge clk or negedge rst_n)
        if (!rst_n) begin
            v_out <= REST[DATA_WIDTH-1:0];
            spike_out <= 1'b0;
            waiting <= 0;
        end else if (step) begin
            spike_out <= 1'b0;
            if (waiting > 0) begin
                waiting <= waiting - 1;
                v_out <= REST[DATA_WIDTH-1:0];
            end else if (p >= THRESHOLD) begin
                spike_out <= 1'b1;
                waiting <= REFRACTORY_PERIOD;
                v_out <= RESET[DATA_WIDTH-1:0];
            end else v_out <= p[DATA_WIDTH-1:0];
        end
endmodule
