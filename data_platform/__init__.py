"""A data platform for retailers: deliveries in, a star schema in Postgres out."""
