"""A loaded runtime behind the OpenAI API."""
