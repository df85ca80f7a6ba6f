"""`python -m neuro_ssl.explain`: what an encoder looks at."""
