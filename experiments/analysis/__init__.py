"""Analysis of records: the matrix, paired outputs, ranking, trends. Nothing is measured here."""
