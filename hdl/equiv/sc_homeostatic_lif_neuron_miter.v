// sc_homeostatic_lif_neuron and sc_homeostatic_lif_reference get the same inputs, free in every clock unless tied below.
// A trace begins with a reset; later ones may come at any time.
module sc_homeostatic_lif_neuron_miter (
    input wire clk,
    input wire rst_n,
    input wire step,
    input wire signed [7:0] I_t,
    output wire [31:0] waiting,  // ref.waiting
    output wire [0:0] left,  // dut.rests.left
    output wire [0:0] rest,  // dut.rests.rest
    output wire signed [41:0] dut_driven,  // dut.driven
    output wire signed [95:0] ref_drive,  // ref.drive
    output wire signed [27:0] dut_kept,  // dut.kept
    output wire signed [95:0] ref_remaining,  // ref.remaining
    output wire signed [7:0] a_before,  // dut.a
    output wire signed [7:0] a_after,  // ref.a
    output wire spike_out,
    output wire signed [7:0] v_out
);
    wire signed [7:0] leak_k = 8'h4;
    wire signed [7:0] gain_k = 8'h10;
    wire signed [7:0] noise_in = 8'h0;
    wire dut_spike, ref_spike;
    wire signed [7:0] dut_v, ref_v;
    sc_homeostatic_lif_neuron #(.DATA_WIDTH(8), .FRACTION(4), .V_THRESHOLD(16), .REFRACTORY_PERIOD(2), .DECAY_K(2), .BUMP_K(4)) dut (.clk(clk), .rst_n(rst_n), .step(step), .leak_k(leak_k), .gain_k(gain_k), .I_t(I_t), .noise_in(noise_in), .spike_out(dut_spike), .v_out(dut_v));
    sc_homeostatic_lif_reference #(.DATA_WIDTH(8), .FRACTION(4), .V_THRESHOLD(16), .REFRACTORY_PERIOD(2), .DECAY_K(2), .BUMP_K(4)) ref (.clk(clk), .rst_n(rst_n), .step(step), .leak_k(leak_k), .gain_k(gain_k), .I_t(I_t), .noise_in(noise_in), .spike_out(ref_spike), .v_out(ref_v));
    assign spike_out = dut_spike;
    assign v_out = dut_v;
    wire signed [95:0] a_wide = a_before;
    wire signed [95:0] raised = a_wide - ((a_wide * 96'sd2) >>> 4) + (spike_out ? 96'sd4 : 96'sd0);
`ifdef FORMAL
    always @* begin
        if ($initstate) assume (!rst_n);
        spikes_equal: assert (dut_spike == ref_spike);
        membranes_equal: assert (dut_v == ref_v);
        rest_counters: assert (waiting == (spike_out ? 2 : left));
        rest_flag: assert (rest || left == 0);
        adaptation: assert (a_after == (raised > 96'sd127 ? 96'sd127 : raised < -96'sd128 ? -96'sd128 : raised));
        fires: cover (dut_spike && ref_spike);  // a dead neuron would equal any other
    end
`endif
endmodule
