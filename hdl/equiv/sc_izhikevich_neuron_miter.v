// sc_izhikevich_neuron and sc_izhikevich_reference get the same inputs, free in every clock unless tied below.
// A trace begins with a reset; later ones may come at any time.
module sc_izhikevich_neuron_miter (
    input wire clk,
    input wire rst_n,
    input wire step,
    input wire signed [7:0] I_t,
    output wire [31:0] waiting,  // ref.waiting
    output wire signed [7:0] u_dut,  // dut.u
    output wire signed [7:0] u_ref,  // ref.u
    output wire signed [7:0] v_dut,  // dut.v
    output wire signed [7:0] v_ref,  // ref.v_out
    output wire signed [7:0] p_dut,  // dut.p
    output wire signed [127:0] p_ref,  // ref.p
    output wire signed [39:0] dut_square,  // dut.square
    output wire signed [127:0] ref_square,  // ref.square
    output wire signed [39:0] dut_driven,  // dut.driven
    output wire signed [127:0] ref_driven,  // ref.drive
    output wire signed [39:0] dut_target,  // dut.target
    output wire signed [127:0] ref_target,  // ref.target
    output wire signed [39:0] dut_moved,  // dut.moved
    output wire signed [127:0] ref_moved,  // ref.moved
    output wire [0:0] left,  // dut.rests.left
    output wire spike_out,
    output wire signed [7:0] v_out
);
    wire signed [7:0] leak_k = 8'h0;
    wire signed [7:0] gain_k = 8'h10;
    wire signed [7:0] noise_in = 8'h0;
    wire dut_spike, ref_spike;
    wire signed [7:0] dut_v, ref_v;
    sc_izhikevich_neuron #(.DATA_WIDTH(8), .FRACTION(4), .V_REST(-11), .V_RESET(-11), .V_THRESHOLD(4), .REFRACTORY_PERIOD(1), .A_K(1), .B_K(3), .D_K(1)) dut (.clk(clk), .rst_n(rst_n), .step(step), .leak_k(leak_k), .gain_k(gain_k), .I_t(I_t), .noise_in(noise_in), .spike_out(dut_spike), .v_out(dut_v));
    sc_izhikevich_reference #(.DATA_WIDTH(8), .FRACTION(4), .V_REST(-11), .V_RESET(-11), .V_THRESHOLD(4), .REFRACTORY_PERIOD(1), .A_K(1), .B_K(3), .D_K(1)) ref (.clk(clk), .rst_n(rst_n), .step(step), .leak_k(leak_k), .gain_k(gain_k), .I_t(I_t), .noise_in(noise_in), .spike_out(ref_spike), .v_out(ref_v));
    assign spike_out = dut_spike;
    assign v_out = dut_v;
`ifdef FORMAL
    always @* begin
        if ($initstate) assume (!rst_n);
        spikes_equal: assert (dut_spike == ref_spike);
        membranes_equal: assert (dut_v == ref_v);
        recovery: assert (u_dut == u_ref);
        rest_counters: assert (waiting == left);
        fires: cover (dut_spike && ref_spike);  // a dead neuron would equal any other
    end
`endif
endmodule
