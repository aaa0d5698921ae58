"""E-mail: composition, digests, and submission by SMTP to each recipient once."""
