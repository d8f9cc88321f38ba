// sc_sobol_counter: the number is the count with its bits in reverse order, and every period starts at 0.
module sc_sobol_counter_proof (
    input wire clk,
    input wire rst_n,
    input wire step
);
    wire [4:0] number;
    wire last;
    sc_sobol_counter #(.BITS(5)) dut (.clk(clk), .rst_n(rst_n), .step(step), .number(number), .last(last));

    // Van der Corput by arithmetic: halves, quarters, ... of what the digits of the clock are worth.
    integer clock;
    reg [4:0] expected;
    always @* expected = (clock % 2) * 16 + (clock / 2 % 2) * 8 + (clock / 4 % 2) * 4 + (clock / 8 % 2) * 2 + clock / 16;
    always @(posedge clk or negedge rst_n)
        if (!rst_n) clock <= 0;
        else if (step) clock <= clock == 31 ? 0 : clock + 1;
    always @* begin
        if ($initstate) assume (!rst_n);
        number_reversed: assert (number == expected);
        last_of_period: assert (last == (clock == 31));
        in_period: assert (clock >= 0 && clock <= 31);
    end
endmodule
