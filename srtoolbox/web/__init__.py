"""A local page in the browser for one's own pictures, animations and videos."""
