"""What a study has found: front, best, importance of parameters, as text and as files.

It reads the record, and writes only what a user asks to export.
"""
