"""Programming problems: what a file of them says, in which language, and which tests their prompts show."""
