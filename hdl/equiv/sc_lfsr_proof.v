// sc_lfsr against eight shifts written out as a matrix: each new bit is the parity of the state under a mask.
module sc_lfsr_proof (
    input wire clk,
    input wire rst_n,
    input wire step,
    input wire back,
    input wire mark
);
    wire [7:0] number;
    sc_lfsr #(.SEED(16'd77)) dut (.clk(clk), .rst_n(rst_n), .step(step), .back(back), .mark(mark), .number(number));

    // One shift at a time into a word of 24 bits; nothing is thrown away until the end.
    reg [15:0] state, kept;
    reg [23:0] long;
    integer i;
    always @* begin
        long = {8'd0, state};
        for (i = 15; i < 23; i = i + 1)
            long = {long[22:0], ^(long[15:0] & 16'hd008)};
    end
    wire [15:0] ahead = back ? kept : long[15:0];
    always @(posedge clk or negedge rst_n)
        if (!rst_n) begin
            state <= 16'd77;
            kept <= 16'd77;
        end else if (step) begin
            state <= ahead;
            if (mark) kept <= ahead;
        end

    wire [15:0] hidden_state, hidden_marked;
    always @* begin
        if ($initstate) assume (!rst_n);
        numbers_equal: assert (number == state[7:0]);
        states_equal: assert (hidden_state == state && hidden_marked == kept);
        never_zero: assert (state != 0 && kept != 0);
    end
endmodule
