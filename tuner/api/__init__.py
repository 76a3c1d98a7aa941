"""What `import tuner` offers a script and a notebook: studies as tables and pictures.

Built on the readings of `record/`; nothing here reads a storage. `tuner/__init__.py` names what is public.
"""
