"""The pages that links in mails lead to: the state of one case, and the acknowledgement of its alert."""
