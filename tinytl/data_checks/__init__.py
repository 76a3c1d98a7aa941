"""What may be wrong with a data set: duplicates, odd pictures, thin classes, likely label errors.

Everything is found and shown here; nothing is removed. `tinytl.data.excluded` leaves out what a person lists.
`label_errors` and `thumbnails` know nothing of a check: a report of trials may use them.
"""
