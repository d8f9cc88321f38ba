// 16-bit LFSR, polynomial x^16 + x^15 + x^13 + x^4 + 1, advanced 8 shifts in every clock with `step`.
//
// `number` is the low byte of the state: SEED's after reset. `mark` remembers the state that this clock
// leads to; `back` returns to the remembered one (SEED at first) instead of advancing.
module sc_lfsr #(
    parameter [15:0] SEED = 16'd1
) (
    input  wire       clk,
    input  wire       rst_n,
    input  wire       step,
    input  wire       back,
    input  wire       mark,
    output wire [7:0] number
);
    function [15:0] advanced(input [15:0] from);
        integer i;
        begin
            advanced = from;
            for (i = 0; i < 8; i = i + 1)
                advanced = {advanced[14:0], advanced[15] ^ advanced[14] ^ advanced[12] ^ advanced[3]};
        end
    endfunction

    reg [15:0] state, marked;
    wire [15:0] next = back ? marked : advanced(state);
    assign number = state[7:0];

    always @(posedge clk or negedge rst_n)
        if (!rst_n) begin
            state <= SEED;
            marked <= SEED;
        end else begin
            if (step) state <= next;
            if (step && mark) marked <= next;
        end
endmodule
