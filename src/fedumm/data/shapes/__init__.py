"""``shapes``: scenes that the project draws itself, with captions and questions in GenEval's six categories.

Everything is drawn from seeded generators, so a scene's number names the same image and texts on
every machine; it needs no download and no package.
"""
