"""One module a command or group of commands; `flows/cli.py` collects them."""
