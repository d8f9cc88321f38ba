// sc_argmax: when done, the class is the lowest one with the highest score. The scores are free, and constant
// for as long as they are compared.
module sc_argmax_proof (
    input wire clk,
    input wire rst_n,
    input wire wanted
);
    localparam CLASSES = 5;
    wire [2:0] index, best_class;
    wire done;
    (* anyconst *) wire signed [39:0] scores;  // class j in bits 8j to 8j + 7
    wire signed [7:0] score = scores[8*index+:8];
    wire valid = wanted & ~done & index < CLASSES;
    sc_argmax #(.CLASSES(CLASSES), .SCORE_WIDTH(8), .CLASS_WIDTH(3)) dut (
        .clk(clk), .rst_n(rst_n), .valid(valid), .score(score), .index(index), .best_class(best_class), .done(done)
    );

    // Of the first `index` scores; once all are seen, of all.
    integer j;
    reg [2:0] best;
    always @* begin
        best = 0;
        for (j = 1; j < CLASSES; j = j + 1)
            if (j < index && $signed(scores[8*j+:8]) > $signed(scores[8*best+:8])) best = j;
    end
    wire signed [7:0] hidden_score;
    always @* begin
        if ($initstate) assume (!rst_n);
        best_so_far: assert (index == 0 || best_class == best);
        score_of_best: assert (index == 0 || hidden_score == $signed(scores[8*best+:8]));
        done_after_the_last: assert (done == (index == CLASSES) && index <= CLASSES);
        finishes: cover (done && best_class == 3);
    end
endmodule
