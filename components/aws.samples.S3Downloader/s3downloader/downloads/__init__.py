"""Downloads: what may be fetched, what is to be fetched, and the course that each one takes."""
