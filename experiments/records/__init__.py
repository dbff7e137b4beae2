"""Records: what a cell leaves behind, whatever happened, and the matrix that is derived from them."""
