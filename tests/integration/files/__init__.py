"""The files of containers, used and attacked from both sides."""
