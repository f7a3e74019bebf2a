"""Downloads: what may be fetched, what is to be fetched, and how each one is carried out."""
