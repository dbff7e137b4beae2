"""Two cells of one run side by side: are the answers the same, and how much faster is one than the other."""
