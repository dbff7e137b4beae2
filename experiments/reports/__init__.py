"""Views: the matrix as people and programs read it. Rows in, text or pages out; nothing is measured here."""
