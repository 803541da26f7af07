"""How the platform is: figures collected once, for metrics (Prometheus) and for `data-platform status` alike."""
