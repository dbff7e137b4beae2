"""What a package may add to Runtime Matrix. Commands import this file to find the presets: it imports nothing."""
