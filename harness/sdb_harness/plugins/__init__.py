"""Our generators inside other people's harnesses; nothing here is imported by the rest."""
