"""Records: what each cell writes to disk, whatever happens, and the types that the matrix is derived from."""
