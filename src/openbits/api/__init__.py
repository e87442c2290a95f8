"""What programs see of the service: wire types, clients, tokens."""
