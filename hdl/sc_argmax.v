// The class: the lowest index with the highest score. Scores arrive one by one, class 0 first, each in a
// clock with `valid`; the last of CLASSES makes `done` high from the next clock on, until reset.
module sc_argmax #(
    parameter CLASSES = 10,
    parameter SCORE_WIDTH = 16,
    parameter CLASS_WIDTH = 4
) (
    input  wire                          clk,
    input  wire                          rst_n,
    input  wire                          valid,
    input  wire signed [SCORE_WIDTH-1:0] score,
    output reg  [CLASS_WIDTH-1:0]        index,  // of the score that is there or comes next
    output reg  [CLASS_WIDTH-1:0]        best_class,
    output reg                           done
);
    localparam [31:0] LAST = CLASSES - 1;
    reg signed [SCORE_WIDTH-1:0] best_score;
    wire first = index == {CLASS_WIDTH{1'b0}};

    always @(posedge clk or negedge rst_n)
        if (!rst_n) begin
            index <= {CLASS_WIDTH{1'b0}};
            best_class <= {CLASS_WIDTH{1'b0}};
            best_score <= {SCORE_WIDTH{1'b0}};
            done <= 1'b0;
        end else if (valid) begin
            if (first || score > best_score) begin
                best_class <= index;
                best_score <= score;
            end
            index <= index + {{(CLASS_WIDTH - 1){1'b0}}, 1'b1};
            done <= index == LAST[CLASS_WIDTH-1:0];
        end
endmodule
