"""Speed: launches in which cells take turns."""
