// The spikes of the last DEPTH steps of one input: past[d] is the one d + 1 steps ago, 0 before step 0.
// `step` is high in the clock in which `spike` is replaced by that of the next step.
module sc_delay_line #(
    parameter DEPTH = 1
) (
    input  wire             clk,
    input  wire             rst_n,
    input  wire             step,
    input  wire             spike,
    output reg  [DEPTH-1:0] past
);
    wire [DEPTH:0] line = {past, spike};
    always @(posedge clk or negedge rst_n)
        if (!rst_n) past <= {DEPTH{1'b0}};
        else if (step) past <= line[DEPTH-1:0];
endmodule
