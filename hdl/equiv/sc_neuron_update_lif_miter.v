// sc_update_as_neuron and sc_lif_reference get the same inputs, free in every clock unless tied below.
// A trace begins with a reset; later ones may come at any time.
module sc_neuron_update_lif_miter (
    input wire clk,
    input wire rst_n,
    input wire step,
    input wire signed [15:0] I_t,
    output wire [31:0] waiting,  // ref.waiting
    output wire [1:0] left,  // dut.left
    output wire signed [15:0] v_dut,  // dut.v
    output wire signed [15:0] v_ref,  // ref.v_out
    output wire signed [15:0] p_dut,  // dut.update.p
    output wire signed [71:0] dut_driven,  // dut.update.driven
    output wire signed [95:0] ref_drive,  // ref.drive
    output wire signed [95:0] p_ref,  // ref.p
    output wire spike_out,
    output wire signed [15:0] v_out
);
    wire signed [15:0] leak_k = 16'h40;
    wire signed [15:0] gain_k = 16'h100;
    wire signed [15:0] noise_in = 16'h0;
    wire dut_spike, ref_spike;
    wire signed [15:0] dut_v, ref_v;
    sc_update_as_neuron #(.DATA_WIDTH(16), .FRACTION(8), .V_THRESHOLD(256), .REFRACTORY_PERIOD(2), .WAITING_WIDTH(2), .V_START(0), .EXTRA_START(0), .MODEL(0)) dut (.clk(clk), .rst_n(rst_n), .step(step), .leak_k(leak_k), .gain_k(gain_k), .I_t(I_t), .noise_in(noise_in), .spike_out(dut_spike), .v_out(dut_v));
    sc_lif_reference #(.DATA_WIDTH(16), .FRACTION(8), .V_THRESHOLD(256), .REFRACTORY_PERIOD(2)) ref (.clk(clk), .rst_n(rst_n), .step(step), .leak_k(leak_k), .gain_k(gain_k), .I_t(I_t), .noise_in(noise_in), .spike_out(ref_spike), .v_out(ref_v));
    assign spike_out = dut_spike;
    assign v_out = dut_v;
`ifdef FORMAL
    always @* begin
        if ($initstate) assume (!rst_n);
        spikes_equal: assert (dut_spike == ref_spike);
        membranes_equal: assert (dut_v == ref_v);
        rest_counters: assert (waiting == left);
        fires: cover (dut_spike && ref_spike);  // a dead neuron would equal any other
    end
`endif
endmodule
