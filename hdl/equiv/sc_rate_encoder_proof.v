// sc_rate_encoder: feature i spikes in step t iff its value is above t with its bits reversed; in every period
// of 16 steps that is `value` times.
module sc_rate_encoder_proof (
    input wire clk,
    input wire [4:0] value
);
    wire [15:0] spikes;
    genvar t;
    generate
        for (t = 0; t < 16; t = t + 1) begin : steps
            sc_rate_encoder #(.STEPS_LOG2(4)) dut (.value(value), .t(t[3:0]), .spike(spikes[t]));
        end
    endgenerate
    integer i, reversed, count;
    reg [15:0] expected;
    always @* begin
        count = 0;
        for (i = 0; i < 16; i = i + 1) begin
            reversed = (i % 2) * 8 + (i / 2 % 2) * 4 + (i / 4 % 2) * 2 + i / 8;
            expected[i] = $signed({27'd0, value}) > reversed;
            count = count + spikes[i];
        end
        spikes_equal: assert (spikes == expected);
        if (value <= 16) as_many_as_the_value: assert (count == value);
    end
endmodule
