"""The judge behind HTTP, for trainers in other processes, containers or languages.

Reading order: `app.py` (the routes and how the server runs), `guard.py` (token and size, before
anything is parsed), `fusion.py` (the request and response shape of SandboxFusion's `/run_code`).
Needs the extra `service`; nothing else of this room imports it.
"""
