"""Sets that we make: synthetic images, referring expressions, DIOR-RSVG, templates."""
