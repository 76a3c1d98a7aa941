"""What a study has found: front, best, importance of parameters, as text and as files.

It works on what the record says, and writes nothing but what a user asks to export.
"""
