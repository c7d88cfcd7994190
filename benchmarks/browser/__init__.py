"""From a link opened to JupyterLab usable in Chromium: of a stopped workspace, and of a running one."""
