"""The network worker: transports, the HTTP download, and the loop that drives them."""
