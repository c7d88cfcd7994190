"""How fast the edge passes requests on, beside other proxies, and what the relay costs WebSockets."""
