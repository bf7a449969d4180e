"""What holds if nobody says otherwise."""

DEFAULTS = {
    "server": {"host": "localhost", "port": 8080},
    "log": {"level": "info", "targets": ["stderr"]},
    "name": "service",
}
