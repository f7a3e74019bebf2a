"""What requests over HTTP have in common, whatever the source they go to."""
