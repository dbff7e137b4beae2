"""The same work through other tools and through ours, interleaved on this machine."""
