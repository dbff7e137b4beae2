"""Reports: the matrix as text, page and file. Rows in, text out; nothing is measured here."""
