"""What is waited for and looked at in a running container."""
