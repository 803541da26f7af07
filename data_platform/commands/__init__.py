"""The `data-platform` commands, one module each. At the top they import nothing heavy, so that `--help` is instant."""
