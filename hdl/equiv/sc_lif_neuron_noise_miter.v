// sc_lif_neuron and sc_lif_reference get the same inputs, free in every clock unless tied below.
// A trace begins with a reset; later ones may come at any time.
module sc_lif_neuron_noise_miter (
    input wire clk,
    input wire rst_n,
    input wire step,
    input wire signed [15:0] I_t,
    input wire signed [15:0] noise_in,
    output wire [31:0] waiting,  // ref.waiting
    output wire [0:0] left,  // dut.rests.left
    output wire [0:0] rest,  // dut.rests.rest
    output wire signed [77:0] dut_driven,  // dut.driven
    output wire signed [95:0] ref_drive,  // ref.drive
    output wire signed [51:0] dut_kept,  // dut.kept
    output wire signed [95:0] ref_remaining,  // ref.remaining
    output wire spike_out,
    output wire signed [15:0] v_out
);
    wire signed [15:0] leak_k = 16'h40;
    wire signed [15:0] gain_k = 16'h100;
    wire dut_spike, ref_spike;
    wire signed [15:0] dut_v, ref_v;
    sc_lif_neuron #(.DATA_WIDTH(16), .FRACTION(8), .V_THRESHOLD(256), .REFRACTORY_PERIOD(2)) dut (.clk(clk), .rst_n(rst_n), .step(step), .leak_k(leak_k), .gain_k(gain_k), .I_t(I_t), .noise_in(noise_in), .spike_out(dut_spike), .v_out(dut_v));
    sc_lif_reference #(.DATA_WIDTH(16), .FRACTION(8), .V_THRESHOLD(256), .REFRACTORY_PERIOD(2)) ref (.clk(clk), .rst_n(rst_n), .step(step), .leak_k(leak_k), .gain_k(gain_k), .I_t(I_t), .noise_in(noise_in), .spike_out(ref_spike), .v_out(ref_v));
    assign spike_out = dut_spike;
    assign v_out = dut_v;
`ifdef FORMAL
    always @* begin
        if ($initstate) assume (!rst_n);
        spikes_equal: assert (dut_spike == ref_spike);
        membranes_equal: assert (dut_v == ref_v);
        rest_counters: assert (waiting == (spike_out ? 2 : left));
        rest_flag: assert (rest || left == 0);
        fires: cover (dut_spike && ref_spike);  // a dead neuron would equal any other
    end
`endif
endmodule
