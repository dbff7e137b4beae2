"""What records say together: the matrix, paired outputs, ranking, trends."""
