"""One module a command or group of commands; `flows/cli/main.py` collects them."""
