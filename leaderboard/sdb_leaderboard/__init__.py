"""Turns stored rows into frontiers, tables and one self-contained page."""
