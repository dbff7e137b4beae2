"""Load for engines that serve many requests at once: when requests arrive, how they are driven, what is read from them.

It starts requests and listens; it knows nothing of HTTP, of tokenizers, or of which engine answers.
"""
