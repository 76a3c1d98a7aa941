"""What a check of a data set finds of what is known to be wrong."""
