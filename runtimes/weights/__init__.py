"""How weights are loaded and made small."""
