"""The dashboard: pages made on the server, that work without scripts and are livelier with them."""
