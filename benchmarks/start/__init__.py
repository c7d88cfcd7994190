"""From the request to the first 200 of JupyterLab, against JupyterHub."""
