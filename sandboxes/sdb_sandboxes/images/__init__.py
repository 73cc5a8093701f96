"""Container images of the Docker sandbox: their recipes, and how they are built.

Reading order: `build.py` (the table of images and the build), `airgapped.py` (the base without a
registry), `<language>/Dockerfile`, `seccomp.json` (the profile of every container).
"""
