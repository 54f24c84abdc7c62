"""Effects on the host: what turns launch plans into processes, and what it can do here."""
