"""What the notebooks show and ask: set-up, pictures, widgets and checks.  The library below imports nothing from here."""
