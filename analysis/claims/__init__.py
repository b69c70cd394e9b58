"""The paper's claims, each judged by the records."""
