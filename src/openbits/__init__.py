"""The background transfer service for Linux: jobs, tokens and the clients that use them."""
