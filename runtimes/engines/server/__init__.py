"""Servers with the OpenAI API as engines: the client, the probe of what a server does, and servers started here."""
