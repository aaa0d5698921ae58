"""`corewatch demo`: a PACS and a mail server as stand-ins, a separate corewatch, and a synthetic head."""
