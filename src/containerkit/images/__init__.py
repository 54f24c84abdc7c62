"""Images: names, pulls, and the image that is this host."""
