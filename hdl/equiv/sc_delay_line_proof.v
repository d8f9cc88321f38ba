// sc_delay_line: past[d] is what `spike` was d + 1 steps ago, 0 before the first.
module sc_delay_line_proof (
    input wire clk,
    input wire rst_n,
    input wire step,
    input wire spike
);
    wire [4:0] past;
    sc_delay_line #(.DEPTH(5)) dut (.clk(clk), .rst_n(rst_n), .step(step), .spike(spike), .past(past));

    // The history as five registers that hand on.
    reg one, two, three, four, five;
    always @(posedge clk or negedge rst_n)
        if (!rst_n) {one, two, three, four, five} <= 0;
        else if (step) begin
            five <= four;
            four <= three;
            three <= two;
            two <= one;
            one <= spike;
        end
    always @* begin
        if ($initstate) assume (!rst_n);
        past_equal: assert (past[0] == one && past[1] == two && past[2] == three && past[3] == four && past[4] == five);
    end
endmodule
