"""What scripts/check-docs.py checks, one file for each kind of claim that a page can make."""
